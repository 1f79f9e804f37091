"""Finished tables of studies, as the tests of conclusions read them."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.manifest import read_sealed
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import file_sha256
from prunegrid.tables.schema import COLUMNS, LONG, PAIRS


@dataclass(frozen=True)
class Finished:
    """Tables of one or more studies, one below the other.

    Attributes:
        cells: (study, model, dataset, "prune / finetune") → facts: the table's columns of the
            first of its seeds, and pruned, tuned, iterative (pruned in more than one step),
            tuned_by (its strategies, each once: those of rounds are the same one many times).
        wide, long, pairs: the tables; of `wide` and `long` the cells that did not fail.
        low: (cell, split, metric) of scores at chance, of any of the cell's seeds.
        directions: (study, split, metric) → whether more is better; None where neither is.
    """

    cells: Mapping[tuple, Mapping[str, Any]]
    wide: pandas.DataFrame
    long: pandas.DataFrame
    pairs: pandas.DataFrame
    low: frozenset[tuple]
    directions: Mapping[tuple[str, str, str], bool | None]


def cell_key(row: Mapping[str, Any]) -> tuple:
    """Return the key of a row's cell, all seeds together."""
    return (row["study"], row["model"], row["dataset"], f"{row['prune']} / {row['finetune']}")


def gather(wide: pandas.DataFrame, long: pandas.DataFrame, pairs: pandas.DataFrame) -> Finished:
    """Return tables (of any number of studies) with the facts of their cells."""
    wide = wide[wide["status"] == "ok"]
    long = long[long["kind"] == "cell"]
    cells: dict[tuple, dict[str, Any]] = {}
    for row in wide.to_dict("records"):
        facts = {name: None if pandas.isna(value) else value for name, value in row.items()}
        facts["pruned"] = facts["method"] != "dense"
        facts["tuned"] = facts["strategy"] != "none"
        facts["iterative"] = "+" in str(facts["prune"])
        facts["tuned_by"] = "+".join(dict.fromkeys(str(facts["strategy"]).split("+")))
        cells.setdefault(cell_key(row), facts)
    chance = long[long["at_chance"].fillna(False).astype(bool)].to_dict("records")
    low = frozenset((cell_key(row), row["split"], row["metric"]) for row in chance)
    return Finished(cells, wide, long, pairs, low, _directions(long))


def _directions(long: pandas.DataFrame) -> dict[tuple[str, str, str], bool | None]:
    groups = long.groupby(["study", "split", "metric"])["higher_is_better"]
    known = {key: some.dropna().unique() for key, some in groups}
    return {key: bool(found[0]) if len(found) == 1 else None for key, found in known.items()}


def read(tables: Sequence[Path]) -> Finished:
    """Return the tables of studies.

    Args:
        tables: `results/<study>.parquet`, at least one; those beside them are found by name.

    Raises:
        PrunegridError: one is missing, no table of a study, or of another version's columns.
    """
    frames: dict[str, list[pandas.DataFrame]] = {"": [], ".long": [], ".pairs": []}
    wanted = {"": COLUMNS, ".long": LONG, ".pairs": PAIRS}
    for table in tables:
        stem = table.name.removesuffix(".parquet")
        if "." in stem or table.suffix != ".parquet":
            raise PrunegridError(
                "is no study's table", where=str(table), expected="results/<study>.parquet"
            )
        for kind, columns in wanted.items():
            path = table.with_name(f"{stem}{kind}.parquet")
            if not path.is_file():
                raise PrunegridError("there is no such table", where=str(path))
            require_whole(table, path)
            frame = pandas.read_parquet(path)
            missing = [c.name for c in columns if c.name not in frame]
            if missing:
                raise PrunegridError(
                    f"it has no column {missing[0]}",
                    where=str(path),
                    remedy=f"it was made by another version: run `snakemake {table}` again",
                )
            frames[kind].append(frame)
    wide, long, pairs = (pandas.concat(some, ignore_index=True) for some in frames.values())
    return gather(wide, long, pairs)


def require_whole(table: Path, path: Path) -> None:
    """Check that a file of a table is the one that was written, where its manifest is there.

    Raises:
        PrunegridError: it was changed or damaged.
    """
    manifest = table.with_suffix(".manifest.json")
    files = read_sealed(manifest).get("files", {}) if manifest.exists() else {}
    if path.name in files and file_sha256(path) != files[path.name]:
        raise PrunegridError(
            "not the file that the table's manifest records",
            where=str(path),
            remedy=f"run `snakemake {table}` again",
        )


def chosen(facts: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    """Return whether a cell's facts are those wanted: a value, or a tuple of them, a column."""
    return facts is not None and all(
        facts.get(name) in (value if isinstance(value, tuple) else (value,))
        for name, value in wanted.items()
    )


def named(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name fits one of the patterns (`ppl_*`)."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
