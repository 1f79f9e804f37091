"""Finished tables of several studies, read together for `prunegrid claims`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import read_json
from prunegrid.tables.files import read_parquet
from prunegrid.tables.inference import Z
from prunegrid.tables.schema import COLUMNS, LONG, PAIRS
from prunegrid.tables.speed import ran_as_stored

# Facts of a cell beside its columns: pruned or tuned at all, pruned in more than one step, and its
# strategies, each once (rounds repeat theirs).
_DERIVED = {"pruned": "boolean", "tuned": "boolean", "iterative": "boolean", "tuned_by": "string"}


def facts() -> dict[str, str]:
    """Return {name: type} of the facts of a cell."""
    return {column.name: column.dtype for column in COLUMNS} | _DERIVED


@dataclass(frozen=True)
class Finished:
    """Tables of one or more studies, one below the other.

    Attributes:
        cells: (study, model, dataset, "prune / finetune") → the facts of its first seed.
        wide, long: the cells that did not fail, each row with its `cell`; speeds of a timing that
            something disturbed are null.
    """

    cells: Mapping[tuple, Mapping[str, Any]]
    wide: pandas.DataFrame
    long: pandas.DataFrame
    pairs: pandas.DataFrame  # those that have an interval
    # (cell, split, metric) of scores that rank nothing (at chance, or a distance of a model as good
    # as dense), of any of the cell's seeds
    low: frozenset[tuple]
    directions: Mapping[tuple, bool | None]  # (study, split, metric) → whether more is better


def gather(wide: pandas.DataFrame, long: pandas.DataFrame, pairs: pandas.DataFrame) -> Finished:
    """Return tables (of any number of studies) with the facts of their cells."""
    wide = undisturbed(_with_cells(wide[wide["status"] == "ok"]))
    long = _with_cells(long[long["kind"] == "cell"])
    first = wide.drop_duplicates("cell")
    first = first.assign(
        pruned=first["method"] != "dense",
        tuned=first["strategy"] != "none",
        iterative=first["prune"].str.contains("+", regex=False),
        tuned_by=["+".join(dict.fromkeys(name.split("+"))) for name in first["strategy"]],
    )
    cells = first.astype(object).where(first.notna(), None).set_index("cell").to_dict("index")
    unranked = long["at_chance"].fillna(False) | long["near_dense"].fillna(False)
    chance = long[unranked.astype(bool)]
    low = frozenset(zip(chance["cell"], chance["split"], chance["metric"], strict=True))
    groups = long.groupby(["study", "split", "metric"])["higher_is_better"]
    ways = {key: column.dropna().unique() for key, column in groups}
    directions = {key: bool(way[0]) if len(way) == 1 else None for key, way in ways.items()}
    pairs = pairs.dropna(subset=["low", "value_b"])
    return Finished(cells, wide, long, pairs, low, directions)


def _with_cells(rows: pandas.DataFrame) -> pandas.DataFrame:
    names = rows["prune"] + " / " + rows["finetune"]
    keys = zip(rows["study"], rows["model"], rows["dataset"], names, strict=True)
    return rows.assign(cell=list(keys))


def undisturbed(wide: pandas.DataFrame) -> pandas.DataFrame:
    """Return the rows without speeds that something disturbed.

    The untouched model, where it was timed as it is, is once as fast as itself.
    """
    untouched = (wide["method"] == "dense") & (wide["strategy"] == "none") & ran_as_stored(wide)
    timed, disturbed = untouched & wide["turn_seconds"].notna(), wide["speed_disturbed"].notna()
    names = [name for name in wide if name.endswith("_speed_vs_dense")]
    return wide.assign(**{name: wide[name].mask(timed, 1.0).mask(disturbed) for name in names})


def read(tables: Sequence[Path]) -> Finished:
    """Return the tables of studies, of `results/<study>.parquet` and those beside it.

    Raises:
        PrunegridError: there is none, or one is missing, damaged, no study's, or of another
            version's columns.
    """
    if not tables:
        raise PrunegridError("there is no finished table", remedy="run a study first")
    kinds = (("", COLUMNS), (".long", LONG), (".pairs", PAIRS))
    several = [[read_parquet(table, *kind) for table in tables] for kind in kinds]
    return gather(*(pandas.concat(frames, ignore_index=True) for frames in several))


def standard_error(pair: Mapping[str, Any]) -> float:
    """Return the standard error of a pair's effect (of a ratio, of its logarithm).

    It adds two independent ones: that of the items from the interval, as if normal (Altman and
    Bland 2011), and that of the mean over seeds from their spread.
    """
    ratio = pair["effect"] == "ratio"
    plain = math.log if ratio else float
    error = abs(plain(pair["high"]) - plain(pair["low"])) / (2 * Z)
    for side in "ab":
        if pair[f"seeds_{side}"] > 1 and not pandas.isna(pair[f"spread_{side}"]):
            spread = float(pair[f"spread_{side}"]) / math.sqrt(pair[f"seeds_{side}"])
            error = math.hypot(error, spread / pair[f"value_{side}"] if ratio else spread)
    return error


def find(folder: Path) -> list[Path]:
    """Return the finished studies' tables of a folder, by name; those of censuses are left out."""
    tables = [path for path in sorted(folder.glob("*.parquet")) if "." not in path.stem]
    return [path for path in tables if path.stem != "claims" and not _is_census(path)]


def _is_census(table: Path) -> bool:
    manifest = table.with_suffix(".manifest.json")
    return manifest.exists() and read_json(manifest).get("plan", {}).get("kind") == "census"
