"""Scored texts that the weights have learned: the share of them, for each score of a cell.

A text is learned if it stands, without case, marks and spacing, in a split that the cell was tuned
or calibrated on (or the head of a classification), whatever the files and data sets are called.
Its share is that of characters, since short lines (headings) stand in many texts.
"""

from __future__ import annotations

import functools
import statistics
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.data.leak_check import fingerprints, same_texts
from prunegrid.data.rows import read_columns
from prunegrid.data.sources.columns import text_of
from prunegrid.tables.schema import Plan

# From this share on a score is marked in Markdown; the column has every share.
MARKED = 0.01


def learned_shares(plan: Plan, cell: Mapping[str, Any]) -> dict[str, float | None]:
    """Return {split, evaluation, task or mean: share of its texts that the cell has learned}.

    None where nothing was learned, or where a data set's texts are not known.
    """
    shares: dict[str, float | None] = {}
    for name, scored in cell["scored"].items():
        learned = [*cell["learned"], *scored["heads"]]
        shares[name] = _share(scored["texts"], learned) if learned else None
    for name, mean in plan["means"].items():
        parts = [shares.get(task) for task in mean["tasks"]]
        shares[name] = None if None in parts else statistics.fmean(parts)
    return shares


def _share(scored: Mapping[str, Any], learned: list[Mapping[str, Any]]) -> float | None:
    try:
        texts, *others = (_fingerprints(**_read(each)) for each in (scored, *learned))
    except (PrunegridError, OSError):  # a data set that is gone, or has no such texts
        return None
    same = same_texts(texts, set().union(*others))
    return sum(same.values()) / texts.total() if texts else None


def _read(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `_fingerprints` that choose some texts."""
    columns = texts["columns"]
    columns = tuple(columns) if isinstance(columns, list) else columns
    return {"path": texts["data"]["path"], "columns": columns} | {
        name: texts[name] for name in ("split", "rows")
    }


@functools.lru_cache(maxsize=32)
def _fingerprints(
    path: str, split: str, columns: str | tuple[str, ...], rows: int | None
) -> Counter[bytes]:
    named = list(columns) if isinstance(columns, tuple) else columns
    found = read_columns(Path(path), split, None, rows, path)
    return fingerprints(text_of(row, named, path) for row in found)
