"""Checking a census against its artifacts: weights hashed and counted again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.artifact_folder import is_dropped, read_manifest
from prunegrid.common.errors import PrunegridError
from prunegrid.models import weight_census
from prunegrid.stages.census import as_table
from prunegrid.tables.census import group_rows
from prunegrid.tables.census_figures import CELL, cell_name

log = logging.getLogger(__name__)

# What a row says of its group, and what is counted in it.
_ROW = ["weights_sha256", "group", "stack", "block", "kind", "bin", "count", "parameters", "share"]


def differences(table: Path, plan: Mapping[str, Any]) -> list[str]:
    """Return every difference between a census and what the weights that it names hold.

    Args:
        table: `results/<study>.parquet`.
        plan: of its manifest.
    """
    shown = pandas.read_parquet(table)
    found = []
    for cell in plan["cells"]:
        own = shown[_is_of(shown, cell)]
        if own.empty:
            found.append(f"{table}: no row for {cell['columns']}")
        elif (own["status"] == "ok").all():
            log.info("verifying %s", cell_name(own.iloc[0]))
            try:
                found += _counted_again(plan, cell, own)
            except PrunegridError as error:
                found.append(str(error))
    return found


def _is_of(shown: pandas.DataFrame, cell: Mapping[str, Any]) -> pandas.Series:
    match = pandas.Series(True, index=shown.index)
    for name in CELL:
        value = cell["columns"][name]
        match &= shown[name].isna() if value is None else (shown[name] == value).fillna(False)
    return match


def _counted_again(
    plan: Mapping[str, Any], cell: Mapping[str, Any], own: pandas.DataFrame
) -> Iterator[str]:
    weights = cell["chain"][-1]
    read_manifest(Path(weights["path"]), weights["key"])
    if is_dropped(Path(weights["path"])):
        log.warning("%s: its weights were dropped, and are not counted again", weights["path"])
        return
    again = weight_census.take(Path(weights["path"]), plan["edges"])
    rows = group_rows(plan, {}, weights["path"], again.facts, as_table(again).to_pandas())
    fresh = pandas.DataFrame(rows)[_ROW].astype(own[_ROW].dtypes.to_dict())
    for (_, told), (_, now) in zip(own[_ROW].iterrows(), fresh.iterrows(), strict=False):
        if not told.equals(now):
            yield f"{weights['path']}: counted {now.to_dict()}, the table says {told.to_dict()}"
            return
    if len(own) != len(fresh):
        yield f"{weights['path']}: {len(fresh)} rows are counted, the table has {len(own)}"
