"""Stage `tasks`: the benchmarks of an evaluation on attested weights, every answer kept.

They are tasks of lm-evaluation-harness. Parents: weights (of a causal language model), and for each
benchmark its rows. Out: a folder a benchmark, `<place>-<task>`, with `scores.parquet` (metric, id,
value: one row an item and metric), `samples.parquet` (prompt, choices, answer, log-likelihoods, the
harness' hashes), `definition.yaml` (the task as it was run). The weights are measured after loading
and compared with their manifest before the first request.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from prunegrid.artifacts import artifact_folder
from prunegrid.artifacts.parts import part_folder
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.harness import task_definitions, task_scores
from prunegrid.models import open_checkpoint
from prunegrid.models.checkpoint import Checkpoint

DOES = "ask"
RULE = "tasks"
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "pyarrow",
    "peft",
    "bitsandbytes",
    "datasets",
    "evaluate",
    "accelerate",
    "jinja2",
    "lm-eval",
    "scikit-learn",
)
COMPUTES = True
GROUP = "evaluate"
START_SECONDS = 15
BYTES_A_PARAMETER = 8

log = logging.getLogger(__name__)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"parts": {folder: record of a benchmark}, "weights": WEIGHTS RECORD}.

    The record of a benchmark is {task, harness, version, shots, summary, subtasks, …}.

    Args:
        settings: {"tasks": of each task, define (a user's own definition, or None), split, shots,
            shots_from, by, rows, metrics; "batch_size", "cache_dequantized"}.
        parents: {"weights": a weights artifact of a causal model, "data.<place>": the rows of the
            benchmark at that place}.
        out: folder of the new artifact.
        job: gives the device and a scratch folder.

    Raises:
        PrunegridError: no such task or metric, rows that do not fit it, or a model without a
            tokenizer.
    """
    # It imports the harness: seconds.
    from prunegrid.evaluation.harness import task_runner

    # What does not fit its rows is found before weights are read: with the last benchmark the
    # answers to all would be lost.
    asked = [
        _Asked.of(place, each, parents[f"data.{place}"], job)
        for place, each in enumerate(settings["tasks"])
    ]
    for one in asked:
        task_runner.rehearse(
            one.settings["task"], one.definitions, one.settings["metrics"], one.where
        )
    cache, dtype = settings["cache_dequantized"], job.compute_dtype
    loaded = open_checkpoint.load(parents["weights"], job.device, cache, compute_dtype=dtype)
    if loaded.tokenizer is None or not hasattr(loaded.model, "get_output_embeddings"):
        raise PrunegridError(
            "a benchmark needs a causal language model with its tokenizer",
            where=str(parents["weights"]),
        )
    parts = {}
    for one in asked:
        place = out / one.folder
        place.mkdir()
        parts[one.folder] = _ask(one, loaded, settings["batch_size"], place)
    return {"parts": parts, "weights": loaded.record}


@dataclass(frozen=True)
class _Asked:
    """A benchmark that is to be asked.

    Attributes:
        settings: of the benchmark.
        folder: where its files go, in the artifact.
        definitions: folders of definitions, the later over the earlier.
        scratch: a folder of its own.
        where: a label for errors.
    """

    settings: dict[str, Any]
    folder: str
    definitions: list[Path]
    scratch: Path
    where: str

    @classmethod
    def of(cls, place: int, settings: dict[str, Any], rows: Path, job) -> _Asked:
        """Return the benchmark with its definition over its rows."""
        name, scratch = settings["task"], Path(job.scratch) / str(place)
        scratch.mkdir(parents=True, exist_ok=True)
        where = f"{job.where}: {name}"
        if settings["define"] is None:
            definition = task_definitions.find(name, where)
        else:
            definition = task_definitions.of_config(name, settings["define"], scratch / "own")
        folders = task_definitions.overlay(definition, settings, rows, scratch, where)
        return cls(settings, part_folder(place, name), folders, scratch, where)


def _ask(asked: _Asked, loaded: Checkpoint, batch_size: int, out: Path) -> dict[str, Any]:
    """Return the record of one benchmark; write its files to `out`."""
    # It imports torch and the harness: seconds.
    from prunegrid.evaluation.harness import task_runner

    settings, name = asked.settings, asked.settings["task"]
    results, answered = task_runner.run(
        loaded.model,
        loaded.tokenizer,
        name,
        asked.definitions,
        settings["rows"],
        batch_size,
        asked.where,
    )
    summary = task_scores.summarize(results, name, settings["metrics"], asked.where)
    samples = task_scores.sample_rows(results["samples"])
    _write(pa.Table.from_pylist(samples, schema=task_scores.SAMPLES), out / "samples.parquet")
    rows = task_scores.score_rows(results["samples"], summary)
    _write(pa.Table.from_pylist(rows, schema=task_scores.SCORES), out / "scores.parquet")
    _describe(results, asked.scratch, out / "definition.yaml")
    parts = task_scores.subtasks(results, name)
    if answered.cut:
        log.warning("%s: %d of %d contexts were cut", asked.where, answered.cut, answered.requests)
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
        "batch_size": batch_size,
    }


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
