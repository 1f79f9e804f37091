"""Data sets of the hub: the files of the wanted splits, at one commit.

The files of a split are those of the first of these that there is:
1. the source's own `files`: {split: file, folder, pattern, or a list of these}, or that of `all`;
2. the `configs` at the head of the repository's README.md (`subset` chooses one by its name);
3. the files' names: data/test-00000-of-00001.parquet belongs to `test`, ca_test.jsonl to `ca_test`.
Loading scripts are never run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from prunegrid.common import data_formats
from prunegrid.common.data_formats import FORMATS, chosen, format_of, is_tabbed
from prunegrid.common.errors import PrunegridError, nearest, summary
from prunegrid.data.sources import hub, readers
from prunegrid.data.sources.fetched import facts

# The builders of `datasets` by the formats that they read.
BUILDERS = {"jsonl": "json", "parquet": "parquet", "csv": "csv", "text": "text"}
PACKED = (*data_formats.PACKED, ".zst")

Patterns = dict[str, list[str]]


def fetch(source: dict, wanted: Collection[str], where: str) -> tuple[dict[str, list[Path]], dict]:
    """Return ({split: files on this disk}, facts) of the wanted splits.

    Args:
        source: repo, revision, and optionally subset (a config's name) and files (see above).
        wanted: names of the source's splits.

    Raises:
        PrunegridError: see `prunegrid.data.sources.hub`; or a split is unknown.
    """
    repo = hub.find(source, "dataset", where)
    card = hub.card(repo)
    splits = resolve(source, card, [n for n in repo.files if builder_of(n)], wanted, where)
    names = [name for split in wanted for name in splits[split]]
    folder, digests = hub.download(repo, names)
    record = facts(source, repo.commit, hub.licence(card), digests)
    return {split: [folder / name for name in splits[split]] for split in wanted}, record


def builder_of(name: str) -> str | None:
    """Return the builder of `datasets` that reads a file, None if none does."""
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
    given = source.get("files")
    if given:
        by_split = given if isinstance(given, dict) else {"all": given}
        patterns = {split: _listed(value) for split, value in by_split.items()}
    else:
        patterns = _card_patterns(card, source.get("subset"), where)
    splits = {}
    for split in wanted:
        if patterns is None:
            matches = [name for name in files if _names_split(name, split)]
        elif split not in patterns:
            raise PrunegridError(
                f"there is no split {split!r}", where=where, remedy=nearest(split, patterns)
            )
        else:
            matches = [n for rule in patterns[split] for n in chosen(files, rule)]
        splits[split] = sorted(set(matches))
        if not matches:
            raise PrunegridError(
                f"no file of the repository is of the split {split!r}",
                where=where,
                expected="one of " + ", ".join(sorted(files)[:8]),
                remedy="say which it is: files: {" + split + ": <pattern>}",
            )
    return splits


def _card_patterns(card: dict, wanted: str | None, where: str) -> Patterns | None:
    """Return the patterns by split of the wanted or default `configs` entry of a README.md."""
    listing = card.get("configs") or []
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
    """Return the patterns by split of `data_files`."""
    from datasets.data_files import sanitize_patterns

    try:
        patterns = sanitize_patterns(given)
    except (TypeError, ValueError) as error:
        raise _odd(f"data_files is {given!r}", where) from error
    for paths in patterns.values():
        if not paths or not all(isinstance(path, str) for path in paths):
            raise _odd(f"data_files is {given!r}", where)
    return {split: _listed(paths) for split, paths in patterns.items()}


def _odd(what: str, where: str) -> PrunegridError:
    return PrunegridError(
        f"in the repository's README.md {what if len(what) < 200 else what[:200] + '…'}",
        where=where,
        expected="configs: [{config_name, data_files: pattern(s) or [{split, path}]}]",
        remedy="say which files are of a split: files: {<split>: <pattern>}",
    )


def _listed(value: str | list) -> list[str]:
    """Return one pattern or several as a list, relative to the repository's root."""
    return [str(v).removeprefix("./") for v in (value if isinstance(value, list) else [value])]


def _names_split(name: str, split: str) -> bool:
    """Return whether a file's path names the split as a word: `ca_test` is not `test`."""
    return bool(re.search(rf"(?<![A-Za-z0-9_]){re.escape(split)}(?![A-Za-z_])", name))


def load(files: list[Path], form: str | None, cache: Path, where: str):
    """Return the rows of files of one split as a `datasets.Dataset`.

    Args:
        files: on this disk, all of one format.
        form: "jsonl", "parquet", "csv" or "text"; None goes by the files' names.
        cache: a folder for the Arrow files that `datasets` writes.

    Raises:
        PrunegridError: they are not what their names say.
    """
    import datasets

    kinds = {BUILDERS.get(form) if form else builder_of(file.name) for file in files}
    kind = next(iter(kinds))
    if len(kinds) > 1 or len({is_tabbed(file) for file in files if kind == "csv"}) > 1:
        raise PrunegridError(
            f"the files of one split are of several formats: {', '.join(f.name for f in files)}",
            where=where,
            expected="one format, as `datasets` reads them together",
            remedy="choose those of one: files: {<split>: <pattern>}",
        )
    if kind is None:
        raise PrunegridError(
            f"format is {form!r}",
            where=where,
            expected="jsonl, parquet, csv or text for a hf: source",
        )
    for file in files if kind == "csv" else ():
        if file.suffix.lower() not in data_formats.UNREAD:
            readers.require_distinct_columns(file)  # pandas gives the second another name
    options = {"sep": "\t"} if kind == "csv" and is_tabbed(files[0]) else {}
    options |= {"keep_default_na": False} if kind == "csv" else {}  # "NA" is a text
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
