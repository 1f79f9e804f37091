"""Stage `tasks`: a benchmark of lm-evaluation-harness on attested weights, every answer kept.

Parents: weights (of a causal language model), data (of the stage `rows`). Out: `scores.parquet`
(metric, id, value: one row an item and metric), `samples.parquet` (prompt, choices, answer,
log-likelihoods, the harness' hashes), `definition.yaml` (the task as it was run). The weights are
measured after loading and compared with their manifest before the first request.
"""

from __future__ import annotations

import hashlib
import logging
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.harness import task_definitions, task_scores
from prunegrid.models import open_checkpoint
from prunegrid.models.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {task, harness, version, shots, summary, subtasks, …, weights}.

    Args:
        settings: task, define (a user's own definition, or None), split, shots, shots_from,
            by, rows, metrics, batch_size, cache_dequantized.
        parents: {"weights": a weights artifact of a causal model, "data": rows}.
        out: folder of the new artifact.
        job: gives the device and a scratch folder.

    Raises:
        PrunegridError: no such task or metric, rows that do not fit it, or a model without a
            tokenizer.
    """
    name, scratch = settings["task"], Path(job.scratch)
    if settings["define"] is None:
        definition = task_definitions.find(name, job.where)
    else:
        definition = task_definitions.of_config(name, settings["define"], scratch / "own")
    folders = task_definitions.overlay(definition, settings, parents["data"], scratch, job.where)
    loaded = _load(parents["weights"], job.device, settings["cache_dequantized"], job.compute_dtype)
    if loaded.tokenizer is None or not hasattr(loaded.model, "get_output_embeddings"):
        raise PrunegridError(
            "a benchmark needs a causal language model with its tokenizer",
            where=str(parents["weights"]),
        )
    from prunegrid.evaluation.harness import (
        task_runner,  # it imports torch and the harness: seconds
    )

    results, answered = task_runner.run(
        loaded.model,
        loaded.tokenizer,
        name,
        folders,
        settings["rows"],
        settings["batch_size"],
        job.where,
    )
    summary = task_scores.summarize(results, name, settings["metrics"], job.where)
    samples = task_scores.sample_rows(results["samples"])
    _write(pa.Table.from_pylist(samples, schema=task_scores.SAMPLES), out / "samples.parquet")
    rows = task_scores.score_rows(results["samples"], summary)
    _write(pa.Table.from_pylist(rows, schema=task_scores.SCORES), out / "scores.parquet")
    _describe(results, scratch, out / "definition.yaml")
    parts = task_scores.subtasks(results, name)
    if answered.cut:
        log.warning("%s: %d of %d contexts were cut", job.where, answered.cut, answered.requests)
    return {
        "task": name,
        "harness": f"lm-eval {metadata.version('lm-eval')}",
        "version": parts[name]["version"],
        "shots": settings["shots"],
        "shots_seed": task_runner.SHOTS_SEED,
        "summary": summary,
        "subtasks": parts,
        "rows": len({sample["id"] for sample in samples}),
        "items_sha256": items_sha256(samples),
        "answers_sha256": answers_sha256(samples) if answered.requests else None,
        "requests": answered.requests,
        "contexts_cut": answered.cut,
        "max_length": answered.max_length,
        "batch_size": settings["batch_size"],
        "weights": loaded.record,
    }


# What was loaded last: a job asks the same weights several tasks, and none changes them.
_loaded: dict[tuple, Checkpoint] = {}


def _load(*asked: Any) -> Checkpoint:
    """Return weights, measured when they were loaded.

    Args:
        asked: folder, device, cache_dequantized, compute_dtype of `evaluated.load`.
    """
    if asked not in _loaded:
        _loaded.clear()  # before the next are there: two models may be more than there is room for
        _loaded[asked] = open_checkpoint.load(*asked[:3], compute_dtype=asked[3])
    return _loaded[asked]


def items_sha256(samples: list[dict]) -> str:
    """Return one digest over what was asked: items of equal digests can be compared in pairs."""
    asked = [
        [sample[name] for name in ("id", "filter", "doc_hash", "prompt_hash", "target_hash")]
        for sample in samples
    ]
    return hashlib.sha256(file_io.canonical_json(asked).encode()).hexdigest()


def answers_sha256(samples: list[dict]) -> str:
    """Return one digest over all log-likelihoods: no two sets of weights give the same."""
    answers = [[sample["id"], sample["responses"]] for sample in samples]
    return hashlib.sha256(file_io.canonical_json(answers).encode()).hexdigest()


def _write(table: pa.Table, path: Path) -> None:
    artifact_folder.require_space(path.parent, table.nbytes)
    pq.write_table(table, path, compression="zstd")


def _describe(results: dict, scratch: Path, path: Path) -> None:
    """Write the tasks as they were run: the harness' own dump, without this machine's paths."""
    dumped = {}
    for task, config in sorted(results["configs"].items()):
        kept = {key: value for key, value in config.items() if key != "dataset_kwargs"}
        kept["metadata"] = {
            key: value
            for key, value in (config.get("metadata") or {}).items()
            if key != "config_source"
        }
        dumped[task] = {key: _plain(value) for key, value in kept.items()}
    path.write_text(yaml.safe_dump(dumped, sort_keys=True, allow_unicode=True), encoding="utf-8")


def _plain(value):
    """Return a value as YAML can hold it: functions are dumped as their source text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
