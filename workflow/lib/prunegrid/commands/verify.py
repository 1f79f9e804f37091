"""Checking a table against its artifacts: hashes, counts and scores, all computed again."""

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
from prunegrid.commands import verify_census
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import file_sha256
from prunegrid.evaluation import scoring, sizes
from prunegrid.graph.nodes import ARTIFACTS
from prunegrid.models import checkpoint, open_checkpoint
from prunegrid.models.packed import plain_tensors
from prunegrid.stages.passes import gzip_bytes
from prunegrid.stages.scores import MODEL_ROLE, read_inputs
from prunegrid.tables.table_rows import WEIGHT_FACTS

log = logging.getLogger(__name__)

# Scores by a model go through float32 matrix products; the others are exact counts.
TOLERANCE = {"exact": 1e-9, "model": 1e-4}


def verify(table: Path) -> list[str]:
    """Return every difference between a table and what its artifacts say; an empty list is a pass.

    Args:
        table: `results/<study>.parquet`. Artifacts are found from the working directory, as the
            manifest beside the table names them.
    """
    manifest_path = table.with_name(table.name.removesuffix(".parquet") + ".manifest.json")
    try:
        manifest = read_sealed(manifest_path)
    except PrunegridError as error:
        return [str(error)]
    differences = list(_files(table.parent, manifest))
    if any(table.name in text for text in differences):
        return differences
    if manifest["plan"].get("kind") == "census":
        return differences + verify_census.differences(table, manifest["plan"])
    wide = pandas.read_parquet(table)
    for cell in manifest["plan"]["cells"]:
        row = _row(wide, cell)
        if row is None:
            differences.append(f"{table}: no row for {cell['columns']}")
        elif row["status"] == "ok":
            log.info("verifying %s", row["artifact"])
            differences += _cell(cell, row)
    if failed := int((wide["status"] != "ok").sum()):
        log.warning("%s: %d of %d cells failed, and claim nothing", table, failed, len(wide))
    long = pandas.read_parquet(table.with_suffix(".long.parquet"))
    for baseline in manifest["plan"]["baselines"]:
        shown = _of_control(long, baseline)
        differences += _guarded(_scores, baseline["split"], baseline, shown)
    return differences


def _files(folder: Path, manifest: Mapping[str, Any]) -> Iterator[str]:
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            yield f"{path}: the file is missing"
        elif file_sha256(path) != digest:
            yield f"{path}: not the file that the manifest records"


def _row(wide: pandas.DataFrame, cell: Mapping[str, Any]) -> pandas.Series | None:
    match = pandas.Series(True, index=wide.index)
    for name, value in cell["columns"].items():
        match &= wide[name].isna() if value is None else (wide[name] == value).fillna(False)
    return wide[match].iloc[0] if match.sum() == 1 else None


def _guarded(check: Any, *arguments: Any) -> list[str]:
    try:
        return list(check(*arguments))
    except PrunegridError as error:
        return [str(error)]


def _cell(cell: Mapping[str, Any], row: pandas.Series) -> list[str]:
    found = _guarded(weight_faults, cell, row)
    for split, pair in cell["texts"].items():
        found += _guarded(_scores, split, pair, row)
        found += _guarded(_lineage, cell, pair["predictions"], row)
    for name, ref in cell["perplexities"].items():
        found += _guarded(_perplexity, name, ref, row)
        found += _guarded(_lineage, cell, ref, row)
    for name, ref in cell["tasks"].items():
        found += _guarded(_task, name, ref, row)
        found += _guarded(_lineage, cell, ref, row)
    return found


def weight_faults(cell: Mapping[str, Any], row: pandas.Series) -> Iterator[str]:
    """Hash the tensors in the files, then load them, count and measure their sizes again."""
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
    for fact in WEIGHT_FACTS:
        told = None if pandas.isna(row[fact]) else row[fact]
        if told != record[fact]:
            yield f"{folder}: {fact} is {record[fact]}, the row says {told}"
    if not pandas.isna(row.get("bytes_packed")):
        place = Path(tempfile.gettempdir())
        whole = plain_tensors.of(loaded)
        found = sizes.measure(whole, record["pattern"], place, str(folder))["bytes"]
        if not pandas.isna(row.get("bytes_gzip")):
            found["gzip"] = gzip_bytes(whole.tensors, place, str(folder))
        for form, size in found.items():
            if size != row[f"bytes_{form}"]:
                yield f"{folder}: {form} takes {size} bytes, the row says {row[f'bytes_{form}']}"


def _lineage(cell: Mapping[str, Any], ref: Mapping[str, str], row: pandas.Series) -> Iterator[str]:
    """Check that the outputs came from this artifact's bytes and these weights."""
    manifest = read_manifest(Path(ref["path"]), ref["key"])
    weights = read_manifest(Path(cell["chain"][-1]["path"]), check_files=False)
    if manifest["parents"]["weights"]["content"] != weights["content"]:
        yield f"{ref['path']}: made from other bytes than {cell['chain'][-1]['path']} holds now"
    if manifest["record"]["weights"]["sha256"] != row["weights_sha256"]:
        yield f"{ref['path']}: made by weights that the row does not name"


def _of_control(long: pandas.DataFrame, baseline: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the long table shows of a control, by the names of a row's columns."""
    rows = long[
        (long["kind"] == baseline["role"])
        & (long["name"] == baseline["baseline"])
        & (long["dataset"] == baseline["dataset"])
        & (long["split"] == baseline["split"])
    ]
    return {f"{row['split']}_{row['metric']}": row["value"] for _, row in rows.iterrows()}


def _scores(split: str, pair: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    """Score the stored predictions again and compare items and means with what is shown."""
    folder = folder_of(pair["scores"])
    manifest = read_manifest(Path(pair["scores"]["path"]), pair["scores"]["key"])
    read_manifest(Path(pair["predictions"]["path"]), pair["predictions"]["key"])
    parents = {
        role: ARTIFACTS / parent["stage"] / parent["key"]
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
    scores = pandas.read_parquet(folder / "scores.parquet")
    for metric, summary in record["summary"].items():
        items = scores.loc[scores["metric"] == metric, "value"]
        value = math.fsum(items) / len(items) if summary["items"] else summary["mean"]
        shown = row[f"{name}_{metric}"]
        if not _same(value, shown, TOLERANCE["exact"]):
            yield f"{folder}: {metric} is {value}, the table says {shown}"


def _same(a: Any, b: Any, tolerance: float) -> bool:
    if pandas.isna(a) or pandas.isna(b):
        return bool(pandas.isna(a) and pandas.isna(b))
    return abs(float(a) - float(b)) <= tolerance


def _close(a: pandas.Series, b: pandas.Series, tolerance: float) -> bool:
    return len(a) == len(b) and all(_same(x, y, tolerance) for x, y in zip(a, b, strict=True))
