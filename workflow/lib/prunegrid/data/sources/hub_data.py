"""A data set of the hub: the files of the splits that are wanted, at one commit.

Which files make up a split is read off, in this order:
1. the source's own `files`: {split: pattern(s)}, or one pattern for the split `all`;
2. the `configs` at the head of the repository's README.md (`subset` chooses one by its name);
3. the files' names: data/test-00000-of-00001.parquet belongs to `test`, ca_test.jsonl to `ca_test`.
Loading scripts are never run.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from prunegrid.common.data_formats import FORMATS, format_of, is_tabbed
from prunegrid.common.errors import PrunegridError, nearest, summary
from prunegrid.data.sources import hub
from prunegrid.data.sources.fetched import describe, facts

# The builders of `datasets` by the formats that they read.
BUILDERS = {"jsonl": "json", "parquet": "parquet", "csv": "csv", "text": "text"}
PACKED = (".gz", ".bz2", ".xz", ".zst")

Patterns = dict[str, list[str]]


def fetch(source: dict, wanted: Collection[str], where: str) -> tuple[dict[str, list[Path]], dict]:
    """Return ({split: files on this disk}, facts) of the wanted splits.

    Args:
        source: repo, revision, and optionally subset (a config's name) and files (see above).
        wanted: names of the source's splits.
        where: label for errors.

    Raises:
        PrunegridError: see `prunegrid.data.sources.hub`; or a split is unknown.
    """
    repo = hub.find(source["repo"], source.get("revision") or "main", "dataset", where)
    card = hub.card(repo)
    splits = resolve(source, card, [n for n in repo.files if builder_of(n)], wanted, where)
    names = [name for split in wanted for name in splits[split]]
    folder, digests = hub.download(repo, names)
    record = facts("hf", describe(source), repo.commit, hub.licence(card), digests)
    return {split: [folder / name for name in splits[split]] for split in wanted}, record


def builder_of(name: str) -> str | None:
    """Return which builder of `datasets` reads a file, None where none does."""
    return BUILDERS.get(format_of(name, PACKED))


def resolve(
    source: dict, card: dict, files: list[str], wanted: Iterable[str], where: str
) -> dict[str, list[str]]:
    """Return {split: its files, sorted} for each wanted split.

    Raises:
        PrunegridError: a split is unknown, or no file is of it.
    """
    if not files:
        raise PrunegridError(
            "the repository holds no data file that can be read",
            where=where,
            expected="a file of " + ", ".join(e for e, form in FORMATS.items() if form in BUILDERS),
            remedy="data sets that are loading scripts are not run: name another one",
        )
    patterns = given_patterns(source.get("files")) or card_patterns(card, source, where)
    found = {}
    for split in wanted:
        if patterns is None:
            found[split] = sorted(name for name in files if names_split(name, split))
        elif split not in patterns:
            raise PrunegridError(
                f"there is no split {split!r}", where=where, remedy=nearest(split, patterns)
            )
        else:
            rules = patterns[split]
            hits = {name for name in files if any(fnmatch.fnmatch(name, r) for r in rules)}
            found[split] = sorted(hits)
        if not found[split]:
            raise PrunegridError(
                f"no file of the repository is of the split {split!r}",
                where=where,
                expected="one of " + ", ".join(sorted(files)[:8]),
                remedy="say which it is: files: {" + split + ": <pattern>}",
            )
    return found


def given_patterns(files: str | list | dict | None) -> Patterns | None:
    """Return the config's own patterns by split, None where it gives none."""
    if not files:
        return None
    by_split = files if isinstance(files, dict) else {"all": files}
    return {split: listed(value) for split, value in by_split.items()}


def card_patterns(card: dict, source: dict, where: str) -> Patterns | None:
    """Return the patterns by split of the chosen `configs` entry of a README.md, or None.

    Raises:
        PrunegridError: there are several and none was chosen, the chosen one does not exist, or
            they are not of the form that the hub knows.
    """
    wanted, listing = source.get("subset"), card.get("configs") or []
    if not isinstance(listing, list) or not all(isinstance(entry, dict) for entry in listing):
        raise _odd(f"configs is {listing!r}", where)
    entries = {
        str(entry["config_name"]): entry
        for entry in listing
        if "data_files" in entry and "config_name" in entry
    }
    if not entries and not wanted:
        return None
    default = [name for name, entry in entries.items() if entry.get("default")]
    default += [name for name in entries if name == "default" or len(entries) == 1]
    name = wanted or (default[0] if default else None)
    if name not in entries:
        what = f"there is no config {wanted!r}" if wanted else "the data set has several configs"
        raise PrunegridError(
            what,
            where=where,
            remedy=f"name one as subset: {nearest(str(wanted or ''), entries)}",
        )
    return _by_split(entries[name]["data_files"], where)


def _by_split(given: Any, where: str) -> Patterns:
    """Return the patterns by split of `data_files`.

    Raises:
        PrunegridError: it is of no form that the hub knows.
    """
    if isinstance(given, list) and any(isinstance(item, dict) for item in given):
        if not all(isinstance(item, dict) for item in given):
            raise _odd(f"data_files is {given!r}", where)
        pairs = [(item.get("split"), item.get("path")) for item in given]
    elif isinstance(given, dict):
        pairs = list(given.items())
    else:
        pairs = [("train", given)]  # so `datasets` names it
    for split, paths in pairs:
        several = paths if isinstance(paths, list) and paths else [paths]
        if not isinstance(split, str | int) or not all(isinstance(p, str) for p in several):
            raise _odd(f"data_files is {given!r}", where)
    return {str(split): listed(paths) for split, paths in pairs}


def _odd(what: str, where: str) -> PrunegridError:
    return PrunegridError(
        f"in the repository's README.md {what if len(what) < 200 else what[:200] + '…'}",
        where=where,
        expected="configs: [{config_name, data_files: pattern(s) or [{split, path}]}]",
        remedy="say which files are of a split: files: {<split>: <pattern>}",
    )


def listed(value: str | list) -> list[str]:
    """Return one pattern or several as a list, relative to the repository's root."""
    return [str(v).removeprefix("./") for v in (value if isinstance(value, list) else [value])]


def names_split(name: str, split: str) -> bool:
    """Return whether a file's path names the split as a word: `ca_test` is not `test`."""
    return bool(re.search(rf"(?<![A-Za-z0-9_]){re.escape(split)}(?![A-Za-z_])", name))


def load(files: list[Path], form: str | None, cache: Path, where: str):
    """Return the rows of files of one split as a `datasets.Dataset`.

    Args:
        files: on this disk, all of one format.
        form: "jsonl", "parquet", "csv" or "text"; None goes by the files' names.
        cache: a folder for the Arrow files that `datasets` writes.
        where: label for errors.

    Raises:
        PrunegridError: they are not what their names say.
    """
    import datasets

    kind = BUILDERS.get(form) if form else builder_of(files[0].name)
    if kind is None:
        raise PrunegridError(
            f"format is {form!r}",
            where=where,
            expected="jsonl, parquet, csv or text for a hf: source",
        )
    options = {"sep": "\t"} if kind == "csv" and is_tabbed(files[0]) else {}
    options |= {"sample_by": "paragraph"} if kind == "text" else {}
    try:
        return datasets.load_dataset(
            kind,
            data_files={"rows": [str(path) for path in files]},
            split="rows",
            cache_dir=str(cache),
            **options,
        )
    except (datasets.exceptions.DatasetGenerationError, ValueError, OSError) as error:
        raise PrunegridError(
            f"{files[0].name} cannot be read ({summary(error.__cause__ or error)})",
            where=where,
            expected=f"a whole {kind} file",
            remedy="delete it from the hub's cache and run again",
        ) from error
