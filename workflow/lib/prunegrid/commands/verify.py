"""Checks of a table against its artifacts: hashes, counts and scores, all computed again."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.artifact_folder import is_dropped, read_manifest, read_sealed
from prunegrid.artifacts.parts import folder_of, record_of
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import file_sha256
from prunegrid.evaluation import scoring, sizes
from prunegrid.models import checkpoint, open_checkpoint, weight_census
from prunegrid.models.packed import plain_tensors
from prunegrid.stages.census import as_table
from prunegrid.stages.scores import MODEL_ROLE, read_inputs
from prunegrid.tables.benchmarks import read_scores
from prunegrid.tables.census import group_rows
from prunegrid.tables.census_figures import cell_name
from prunegrid.tables.schema import CELL
from prunegrid.tables.table_rows import WEIGHT_FACTS

log = logging.getLogger(__name__)

# Scores by a model go through float32 matrix products; the others are exact counts.
TOLERANCE = {"exact": 1e-9, "model": 1e-4}
# Columns of a census that are counted again, with those that name a row's group.
CENSUS = ["weights_sha256", "group", "stack", "block", "kind", "bin", "count", "parameters"]
CENSUS += ["share"]


def verify(table: Path) -> list[str]:
    """Return every difference between a table and its artifacts; an empty list is a pass.

    Args:
        table: `results/<study>.parquet`. The manifest beside it names the artifacts, as paths from
            the working directory.
    """
    if table.suffix != ".parquet" or "." in table.stem:
        expected = "results/<study>.parquet"
        raise PrunegridError("is no study's table", where=str(table), expected=expected)
    manifest_path = table.with_name(table.name.removesuffix(".parquet") + ".manifest.json")
    try:
        manifest = read_sealed(manifest_path)
    except PrunegridError as error:
        return [str(error)]
    differences = list(_files(table.parent, manifest))
    if any(table.name in text for text in differences):
        return differences
    if manifest["plan"].get("kind") == "census":
        return differences + census_differences(table, manifest["plan"])
    wide = pandas.read_parquet(table)
    for cell in manifest["plan"]["cells"]:
        rows = wide[_matches(wide, cell["columns"])]
        if len(rows) != 1:
            differences.append(f"{table}: no row for {cell['columns']}")
        elif rows.iloc[0]["status"] == "ok":
            log.info("verifying %s", rows.iloc[0]["artifact"])
            differences += _cell(cell, rows.iloc[0])
    if failed := int((wide["status"] != "ok").sum()):
        log.warning("%s: %d of %d cells failed, and claim nothing", table, failed, len(wide))
    long = pandas.read_parquet(table.with_suffix(".long.parquet"))
    for control in manifest["plan"]["baselines"]:
        differences += _guarded(_scores, control["split"], control, _of_control(long, control))
    return differences


def _files(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            yield f"{path}: the file is missing"
        elif file_sha256(path) != digest:
            yield f"{path}: not the file that the manifest records"


def _matches(frame: pandas.DataFrame, values: Mapping[str, Any]) -> pandas.Series:
    """Return which rows have these values; None stands for a missing one."""
    mask = pandas.Series(True, index=frame.index)
    for name, value in values.items():
        mask &= frame[name].isna() if value is None else (frame[name] == value).fillna(False)
    return mask


def _guarded(check: Any, *arguments: Any) -> list[str]:
    try:
        return list(check(*arguments))
    except PrunegridError as error:
        return [str(error)]


def _cell(cell: Mapping[str, Any], row: pandas.Series) -> list[str]:
    differences = _guarded(weight_faults, cell, row)
    for split, pair in cell["texts"].items():
        differences += _guarded(_scores, split, pair, row)
        differences += _guarded(_lineage, cell, pair["predictions"], row)
    for check, refs in ((_perplexity, cell["perplexities"]), (_task, cell["tasks"])):
        for name, ref in refs.items():
            differences += _guarded(check, name, ref, row)
            differences += _guarded(_lineage, cell, ref, row)
    return differences


def weight_faults(cell: Mapping[str, Any], row: pandas.Series) -> Iterator[str]:
    """Yield differences of a cell's weights: hashed in their files, then loaded and counted."""
    ref = cell["chain"][-1]
    folder = Path(ref["path"])
    read_manifest(folder, ref["key"])
    if is_dropped(folder):
        log.warning("%s: its weights were dropped, and are not hashed again", folder)
        return
    digest = checkpoint.file_weights_sha256(folder)
    if digest != row["weights_sha256"]:
        yield f"{folder}: weights hash to {digest}, the row says {row['weights_sha256']}"
    loaded = open_checkpoint.load(folder, attest=False)
    record = loaded.record
    for fact in row.index.intersection(WEIGHT_FACTS):
        shown = None if pandas.isna(row[fact]) else row[fact]
        if shown != record[fact]:
            yield f"{folder}: {fact} is {record[fact]}, the row says {shown}"
    if not pandas.isna(row.get("bytes_packed")):
        place = Path(tempfile.gettempdir())
        whole = plain_tensors.of(loaded)
        gzipped = not pandas.isna(row.get("bytes_gzip"))
        found = sizes.measure(whole, record["pattern"], place, str(folder), gzipped)["bytes"]
        for form, size in found.items():
            if size != row[f"bytes_{form}"]:
                yield f"{folder}: {form} takes {size} bytes, the row says {row[f'bytes_{form}']}"


def _lineage(cell: Mapping[str, Any], ref: Mapping[str, str], row: pandas.Series) -> Iterator[str]:
    """Check that this artifact's bytes and these weights gave the outputs."""
    manifest = read_manifest(Path(ref["path"]), ref["key"])
    weights = read_manifest(Path(cell["chain"][-1]["path"]), check_files=False)
    if manifest["parents"]["weights"]["content"] != weights["content"]:
        yield f"{ref['path']}: made from other bytes than {cell['chain'][-1]['path']} holds now"
    if manifest["record"]["weights"]["sha256"] != row["weights_sha256"]:
        yield f"{ref['path']}: made by weights that the row does not name"


def _of_control(long: pandas.DataFrame, control: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a control in the long table, by the names of a row's columns."""
    values = {"kind": control["role"], "name": control["baseline"]}
    values |= {name: control[name] for name in ("dataset", "split")}
    rows = long[_matches(long, values)]
    return {f"{row['split']}_{row['metric']}": row["value"] for _, row in rows.iterrows()}


def _scores(split: str, pair: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    """Score the stored predictions again; compare items and means with the stored and the shown."""
    folder = folder_of(pair["scores"])
    manifest = read_manifest(Path(pair["scores"]["path"]), pair["scores"]["key"])
    read_manifest(Path(pair["predictions"]["path"]), pair["predictions"]["key"])
    parents = {
        role: Path(pair["scores"]["path"]).parents[1] / parent["stage"] / parent["key"]
        for role, parent in manifest["parents"].items()
    }
    models = {
        role.removesuffix(MODEL_ROLE): place
        for role, place in parents.items()
        if role.endswith(MODEL_ROLE)
    }
    if "data" in parents:
        read_manifest(parents["data"], manifest["parents"]["data"]["key"])
    parents["predictions"] = folder_of(pair["predictions"])
    predictions = read_inputs(manifest["settings"], parents)
    scores = scoring.score(predictions, manifest["settings"]["metrics"], models)
    stored = pandas.read_parquet(folder / "scores.parquet")
    tolerance = TOLERANCE["model" if models else "exact"]
    recorded = record_of(pair["scores"], manifest)["summary"]
    if scores.summary.keys() != recorded.keys():
        changed = sorted(scores.summary.keys() ^ recorded.keys())
        yield f"{folder}: was scored by other code: {', '.join(changed)} are not in both"
        return
    for metric, facts in scores.summary.items():
        if metric in stored and not _close(scores.examples[metric], stored[metric], tolerance):
            yield f"{folder}: {metric} of single items differs from the stored predictions' scores"
        for value in (recorded[metric]["mean"], row.get(f"{split}_{metric}")):
            if not _same(facts["mean"], value, tolerance):
                yield f"{folder}: {metric} is {facts['mean']}, the table says {value}"
                break


def _perplexity(name: str, ref: Mapping[str, str], row: pandas.Series) -> Iterator[str]:
    folder = Path(ref["path"])
    record = read_manifest(folder, ref["key"])["record"]
    windows = pandas.read_parquet(folder / "windows.parquet")
    value = math.exp(windows["loss"].sum() / windows["units"].sum())
    shown = row[f"{name}_{record['metric']}"]
    if not _same(value, shown, TOLERANCE["exact"] * value):
        yield f"{folder}: {record['metric']} is {value}, the table says {shown}"


def _task(name: str, ref: Mapping[str, str], row: pandas.Series) -> Iterator[str]:
    """Take the means of the stored items again; scores without items are compared as recorded."""
    folder = folder_of(ref)
    record = record_of(ref, read_manifest(Path(ref["path"]), ref["key"]))
    scores = read_scores(folder)
    for metric, summary in record["summary"].items():
        own = scores[scores["metric"] == metric]
        value = summary["mean"]
        if summary["items"]:
            value = math.fsum(own["value"]) / math.fsum(own["weight"])
        shown = row[f"{name}_{metric}"]
        if not _same(value, shown, TOLERANCE["exact"]):
            yield f"{folder}: {metric} is {value}, the table says {shown}"


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if pandas.isna(a) or pandas.isna(b):
        return bool(pandas.isna(a) and pandas.isna(b))
    return abs(float(a) - float(b)) <= tolerance


def _close(a: pandas.Series, b: pandas.Series, tolerance: float) -> bool:
    return len(a) == len(b) and all(_same(x, y, tolerance) for x, y in zip(a, b, strict=True))


def census_differences(table: Path, plan: Mapping[str, Any]) -> list[str]:
    """Return every difference between a census and the weights that it names.

    Args:
        table: `results/<study>.parquet`.
        plan: of its manifest.
    """
    shown = pandas.read_parquet(table)
    differences = []
    for cell in plan["cells"]:
        own = shown[_matches(shown, {name: cell["columns"][name] for name in CELL})]
        if own.empty:
            differences.append(f"{table}: no row for {cell['columns']}")
        elif (own["status"] == "ok").all():
            log.info("verifying %s", cell_name(own.iloc[0]))
            differences += _guarded(_counts, plan, cell["chain"][-1], own)
    return differences


def _counts(
    plan: Mapping[str, Any], weights: Mapping[str, str], own: pandas.DataFrame
) -> Iterator[str]:
    """Count a cell's weights again and compare its rows of the census."""
    folder = Path(weights["path"])
    read_manifest(folder, weights["key"])
    if is_dropped(folder):
        log.warning("%s: its weights were dropped, and are not counted again", folder)
        return
    again = weight_census.take(folder, plan["edges"])
    rows = group_rows(plan, {}, weights["path"], again.facts, as_table(again).to_pandas())
    fresh = pandas.DataFrame(rows)[CENSUS].astype(own[CENSUS].dtypes.to_dict())
    for (_, shown), (_, now) in zip(own[CENSUS].iterrows(), fresh.iterrows(), strict=False):
        if not shown.equals(now):
            yield f"{folder}: counted {now.to_dict()}, the table says {shown.to_dict()}"
            return
    if len(own) != len(fresh):
        yield f"{folder}: {len(fresh)} rows are counted, the table has {len(own)}"
