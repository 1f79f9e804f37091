"""One cell of the finished tables, by a text: a study and names, or the beginning of a digest.

`STUDY/NAME/NAME`: every name is the cell's model, pruning, tuning, data set or seed, and together
they are no other cell's: `demo/wiki-sparsegpt-2of4/demo-full`. Or six or more hexadecimal digits:
the beginning of the key of its weights' artifact, or of `weights_sha256`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.artifact_folder import read_sealed
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.tables import finished
from prunegrid.tables.files import read_parquet
from prunegrid.tables.headline import headline
from prunegrid.tables.schema import CELL, COLUMNS, LONG, cell_key

DIGEST = re.compile(r"[0-9a-f]{6,64}")
# Facts of a cell's plan that are read of it.
READ = {"chain", "learned", "scored", "documents"}
# Candidates that an error lists.
LISTED = 12


@dataclass(frozen=True)
class TableCell:
    """A row of a finished table, with what stands beside it.

    Attributes:
        name: `STUDY/NAME/NAME`, by which it is found.
        row: its columns, None for nulls.
        scores: its rows of the long table.
        shown: (split, metric) of the scores that the study's page shows.
        dense_scores: those of the untouched model on the same data; empty if there is none.
        plan: its entry in the table's plan: chain, texts, perplexities, tasks.
    """

    name: str
    row: dict[str, Any]
    scores: pandas.DataFrame
    shown: list[tuple[str, str]]
    dense_scores: pandas.DataFrame
    plan: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Return the artifact of its weights."""
        return Path(self.row["artifact"])


def find(text: str, results: Path) -> TableCell:
    """Return the cell that a text names.

    Raises:
        PrunegridError: no cell or several have the name, it failed, or its table is missing,
            damaged or a census.
    """
    study, *names = text.strip("/").split("/")
    by_digest = not names and DIGEST.fullmatch(study) and not _table(results, study).is_file()
    tables = finished.find(results) if by_digest else [_existing(study, results)]
    if not tables:
        raise _not_one(text, pandas.DataFrame(), pandas.DataFrame())
    rows = pandas.concat([_rows(table) for table in tables], ignore_index=True)
    fits = rows[_of_digest(rows, study) if by_digest else _of_names(rows, names, text)]
    if len(fits) != 1:
        raise _not_one(text, fits, rows)
    return _whole(fits.iloc[0], results)


def _not_one(text: str, fits: pandas.DataFrame, rows: pandas.DataFrame) -> PrunegridError:
    """Return the error of a text that no cell or several fit; it lists these, or all there are."""
    what = f"{len(fits)} cells have this name" if len(fits) else "no cell has this name"
    names = list((fits if len(fits) else rows)["name"]) if len(rows) else []
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    expected = f"one of {', '.join(names[:LISTED])}{more}" if names else "a finished table"
    return PrunegridError(what, where=text, expected=expected)


def _table(results: Path, study: str) -> Path:
    return results / f"{study}.parquet"


def _existing(study: str, results: Path) -> Path:
    """Return a study's table.

    Raises:
        PrunegridError: there is none, with the nearest name.
    """
    tables = {path.stem: path for path in finished.find(results)}
    if study not in tables and _table(results, study).is_file():
        what = f"'{study}' is a census, whose rows have no scores"
        raise PrunegridError(what, where=str(results), remedy=nearest(study, tables))
    if study not in tables:
        raise PrunegridError(
            f"there is no finished table of a study '{study}'",
            where=str(results),
            expected="STUDY/NAME/NAME, or six digits of a weights digest",
            remedy=f"{nearest(study, tables)}, or make it: prunegrid run {study}",
        )
    return tables[study]


def _rows(table: Path) -> pandas.DataFrame:
    """Return a study's table with the `name` of every cell."""
    rows = read_parquet(table, "", COLUMNS)
    several = [name for name in CELL if name in ("prune", "finetune") or rows[name].nunique() > 1]
    names = [[table.stem, *map(str, row[several].dropna())] for _, row in rows.iterrows()]
    return rows.assign(name=["/".join(parts) for parts in names])


def _of_digest(rows: pandas.DataFrame, digits: str) -> pandas.Series:
    """Return which rows' artifact or weights begin with some digits."""
    keys = rows["artifact"].fillna("").str.rpartition("/")[2]
    return keys.str.startswith(digits) | rows["weights_sha256"].fillna("").str.startswith(digits)


def _of_names(rows: pandas.DataFrame, names: Sequence[str], text: str) -> pandas.Series:
    """Return which rows have all of the names; the one that is called so, if one is.

    Raises:
        PrunegridError: a name is no row's.
    """
    values = [{str(v) for v in row.dropna()} for _, row in rows[list(CELL)].iterrows()]
    known = set().union(*values)
    for name in names:
        if name not in known:
            what = f"the study has no model, pruning, tuning, data set or seed '{name}'"
            raise PrunegridError(what, where=text, remedy=nearest(name, known))
    exact = rows["name"] == "/".join([rows["study"].iloc[0], *names])
    if exact.sum() == 1:
        return exact
    return pandas.Series([own.issuperset(names) for own in values], index=rows.index)


def _whole(row: pandas.Series, results: Path) -> TableCell:
    """Return a row with its scores and its plan.

    Raises:
        PrunegridError: it has no scores, with the reason.
    """
    if row["status"] != "ok":
        raise PrunegridError(
            f"it has no weights to export: {row['status']}, {row['reason']}",
            where=row["name"],
            remedy=f"mend that and run the study again: prunegrid run {row['study']}",
        )
    table, key = _table(results, row["study"]), cell_key(row)
    long = read_parquet(table, ".long", LONG)
    cells = long[long["kind"] == "cell"]
    keys = [cell_key(each) for _, each in cells.iterrows()]
    untouched = (key[0], "dense", "none", *key[3:4])
    plan = read_sealed(table.with_suffix(".manifest.json"))["plan"]
    wanted = dict(zip(CELL, key, strict=True))
    entries = [c for c in plan["cells"] if {n: c["columns"][n] for n in CELL} == wanted]
    if not entries or not entries[0].keys() >= READ:
        raise PrunegridError(
            f"its manifest does not say what {row['name']} was made of",
            where=str(table),
            remedy=f"make the table again: prunegrid run {row['study']}",
        )
    columns = [name for name in row.index if name != "name"]
    return TableCell(
        row["name"],
        {name: None if pandas.isna(row[name]) else row[name] for name in columns},
        (own := cells[[each == key for each in keys]]),
        headline(plan, own),
        cells[[each[:4] == untouched for each in keys]],
        entries[0],
    )
