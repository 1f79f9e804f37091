"""Stage `tasks`: benchmarks of lm-evaluation-harness on attested weights, every answer kept.

Parents: weights (of a causal language model), and for each benchmark its rows. Out: a folder a
benchmark, `<place>-<task>`, with `scores.parquet` (metric, id, value: one row an item and metric),
`samples.parquet` (prompt, choices, answer, log-likelihoods, the harness' hashes), `definition.yaml`
(the task as it was run). The weights are measured after loading and compared with their manifest
before the first request.
"""

from __future__ import annotations

import logging
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from prunegrid.artifacts import artifact_folder
from prunegrid.common import precision
from prunegrid.common.file_io import json_sha256
from prunegrid.evaluation.harness import task_definitions, task_scores
from prunegrid.evaluation.harness.task_definitions import Benchmark
from prunegrid.models import open_checkpoint
from prunegrid.models.checkpoint import Checkpoint

DOES = "ask"
PACKAGES = (
    "any weights",
    "pandas",
    "pyarrow",
    "datasets",
    "evaluate",
    "accelerate",
    "jinja2",
    "lm-eval",
    "scikit-learn",
)
COMPUTES = True
GROUP = "evaluate"
BYTES_A_PARAMETER = 8
FITS = ("causal-lm",)

log = logging.getLogger(__name__)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"parts": {folder: record of a benchmark}, "weights": WEIGHTS RECORD}.

    The record of a benchmark is {task, harness, version, shots, summary, subtasks, …}.

    Args:
        settings: {"tasks": of each task, define (a user's own definition, or None), split, shots,
            shots_from, by, rows, metrics; "batch_size", "cache_dequantized"}.
        parents: {"weights": a weights artifact of a causal model, "data.<place>": the rows of the
            benchmark at that place}.

    Raises:
        PrunegridError: there is no such task or metric, or rows do not fit it.
    """
    # It imports the harness: seconds.
    from prunegrid.evaluation.harness import task_runner

    # A definition that does not fit its rows is found before weights are read: with the last
    # benchmark the answers to all would be lost.
    scratch = Path(job.scratch)
    benchmarks = [
        task_definitions.prepare(place, each, parents[f"data.{place}"], scratch, job.where)
        for place, each in enumerate(settings["tasks"])
    ]
    for benchmark in benchmarks:
        task_runner.rehearse(benchmark)
    cache, dtype = settings["cache_dequantized"], precision.of_job(job)
    loaded = open_checkpoint.load(
        parents["weights"],
        job.device,
        cache,
        compute_dtype=dtype,
        asked_by="tasks",
        where=job.where,
    )
    parts = {}
    for benchmark in benchmarks:
        folder = out / benchmark.folder
        folder.mkdir()
        parts[folder.name] = _ask(benchmark, loaded, settings["batch_size"], folder)
    return {"parts": parts, "weights": loaded.record}


def _ask(benchmark: Benchmark, loaded: Checkpoint, batch_size: int, out: Path) -> dict[str, Any]:
    """Return the record of one benchmark; write its files to `out`."""
    # It imports torch and the harness: seconds.
    from prunegrid.evaluation.harness import task_runner

    settings, name, where = benchmark.settings, benchmark.settings["task"], benchmark.where
    results, model, aggregations = task_runner.run(
        loaded.model, loaded.tokenizer, benchmark, batch_size
    )
    summary = task_scores.summarize(results, name, settings["metrics"], where, aggregations)
    samples = task_scores.sample_rows(results["samples"])
    _write(pa.Table.from_pylist(samples, schema=task_scores.SAMPLES), out / "samples.parquet")
    rows = task_scores.score_rows(results["samples"], summary)
    _write(pa.Table.from_pylist(rows, schema=task_scores.SCORES), out / "scores.parquet")
    _describe(results, out / "definition.yaml")
    parts = task_scores.subtasks(results)
    if model.cut:
        log.warning("%s: %d contexts were cut", where, model.cut)
    questions = ("id", "filter", *task_scores.HASHES)
    answers = [[each["id"], each["responses"]] for each in samples]
    return {
        "task": name,
        "harness": f"lm-eval {metadata.version('lm-eval')}",
        "version": parts[name]["version"],
        "shots": settings["shots"],
        "shots_seed": task_scores.SEED,
        "summary": summary,
        "subtasks": parts,
        "rows": len({sample["id"] for sample in samples}),
        # Items of equal digests can be compared in pairs; answers of other weights differ.
        "items_sha256": json_sha256([[each[field] for field in questions] for each in samples]),
        "answers_sha256": json_sha256(answers) if model.requests else None,
        "requests": model.requests,
        "contexts_cut": model.cut,
        "max_length": model.max_length,
        "batch_size": batch_size,
    }


def _write(table: pa.Table, path: Path) -> None:
    artifact_folder.require_space(path.parent, table.nbytes)
    pq.write_table(table, path, compression="zstd")


def _describe(results: dict, path: Path) -> None:
    """Write the tasks as they were run: the harness' own dump, without this machine's paths."""
    dumped = {}
    for task, config in sorted(results["configs"].items()):
        shown = {"metadata": {}, **config}
        shown["metadata"] = dict(shown["metadata"] or {})
        shown["metadata"].pop("config_source", None)
        shown.pop("dataset_kwargs", None)
        dumped[task] = _plain(shown)
    path.write_text(yaml.safe_dump(dumped, sort_keys=True, allow_unicode=True), encoding="utf-8")


def _plain(value):
    """Return a value as YAML can hold it: functions are dumped as their source text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
