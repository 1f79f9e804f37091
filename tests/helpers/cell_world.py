"""Finished tables of small studies whose cells have real weights, made without a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.models import checkpoint
from prunegrid.tables.files import typed_frame
from prunegrid.tables.schema import CELL, COLUMNS, LONG
from tests.helpers import tiny

NAMES = {"model": "m", "prune": "dense", "finetune": "none", "dataset": "notes", "seed": None}
HUB = {"kind": "hf", "name": "hf:org/base@main", "resolved": "c0ffee", "licence": "mit"}
DATA = {"kind": "hf", "name": "hf:org/notes@main", "resolved": "beef", "licence": "cc0-1.0"}
METRIC = "ppl_64_nonoverlap"


def artifact(
    stage: str, key: str, write: Callable[[Path], dict], *, source: dict | None = None, **facts
) -> dict[str, str]:
    """Make an artifact below results/; return its entry in a table's plan.

    Args:
        write: fills the folder; returns the WEIGHTS RECORD, {} for data.
        source: of a model or of data.
        facts: of the manifest.
    """
    folder = Path("results/artifacts", stage, key)
    with artifact_folder.writing(folder) as out:
        weights = write(out)
        files = artifact_folder.list_files(out)
        record = {"weights": weights, "source": source}
        manifest = {
            "stage": stage,
            "key": key,
            "label": facts.pop("label", f"{stage} m"),
            "settings": {},
            "versions": {"torch": "2"},
            "files": files,
            "content": artifact_folder.content_digest(files),
            "record": {name: value for name, value in record.items() if value},
            **facts,
        }
        file_io.write_json(out / artifact_folder.MANIFEST, artifact_folder.sealed(manifest))
    ref = {"path": folder.as_posix(), "key": key, "stage": stage, "label": manifest["label"]}
    return ref | {"status": f"results/status/{stage}-{key}.json"}


def decoder(kind: str = "llama", pattern: str | None = None, seed: int = 0) -> Callable:
    """Return what writes a small decoder, pruned to a pattern."""

    def write(out: Path) -> dict:
        model = tiny.model(kind, seed=seed)
        tiny.prune_(model, pattern)
        return checkpoint.write_plain(model, tiny.tokenizer(), out, pattern).record

    return write


def data(key: str = "da7a" * 4, source: dict = DATA) -> dict[str, str]:
    """Make the artifact of a data set without rows; return its entry."""
    return artifact("data", key, lambda out: {}, source=source, label="data notes")


def cell(chain: list[dict], texts: dict, learned: bool = False, **columns: Any) -> dict[str, Any]:
    """Return a cell's entry in a table's plan."""
    entry = {"data": texts, "split": "train", "columns": "text", "rows": None}
    return {
        "columns": NAMES | columns,
        "chain": chain,
        "learned": [entry | {"use": "calibrated"}] if learned else [],
        "scored": {"wiki": {"texts": entry | {"split": "test"}, "heads": []}},
        "documents": {},
    }


def row(study: str, entry: dict[str, Any], value: float, **columns: Any) -> tuple[dict, dict]:
    """Return a cell's rows of the table and of its long table."""
    ref, names = entry["chain"][-1], {name: entry["columns"][name] for name in CELL}
    weights = artifact_folder.recorded(Path(ref["path"]))["record"]["weights"]
    about = {"study": study, **names, "method": "dense", "strategy": "none"} | columns
    facts = {name: weights.get(name) for name in WEIGHTS}
    wide = about | facts | {"weights_sha256": weights["sha256"], "artifact": ref["path"]}
    wide |= {"weight_precision": weights["precision"], "evaluation_dtype": "float32"}
    long = about | {"kind": "cell", "name": "m", "split": "wiki", "metric": METRIC, "n": 8}
    long |= {"value": value, "low": value - 1, "high": value + 1, "higher_is_better": False}
    return wide | {"status": "ok", f"wiki_{METRIC}": value}, long


WEIGHTS = (
    *("adapter", "sparsity_prunable", "sparsity_effective", "nm_valid", "parameters"),
    *("nonzero_parameters", "removed_prunable"),
)


def table(study: str, cells: list[dict], rows: list[tuple[dict, dict]]) -> None:
    """Write a study's table, its long table and their manifest."""
    wide, long = ([pair[side] for pair in rows] for side in (0, 1))
    typed_frame(wide, COLUMNS).to_parquet(f"results/{study}.parquet")
    typed_frame(long, LONG).to_parquet(f"results/{study}.long.parquet")
    manifest = {"study": study, "files": {}, "plan": {"study": study, "cells": cells}}
    file_io.write_json(Path(f"results/{study}.manifest.json"), artifact_folder.sealed(manifest))


def small(study: str = "demo") -> None:
    """Make a study of a dense decoder and one pruned to 2:4, without a licence or with `mit`."""
    torch.manual_seed(0)
    base = artifact("model", "ba5e" * 4, decoder(), source=HUB, settings={"task": "causal-lm"})
    pruned = artifact(
        "prune",
        "c0de" * 4,
        decoder(pattern="2:4"),
        label="m > prune half",
        settings={"method": "wanda", "pattern": "2:4", "update": None},
    )
    texts = data()
    dense = cell([base], texts)
    half = cell([base, pruned], texts, learned=True, prune="half", seed=0)
    rows = [row(study, dense, 20.0)]
    rows += [row(study, half, 25.0, method="wanda", pattern="2:4")]
    table(study, [dense, half], rows)
