"""Stage `answers`: tasks' items that change sides against the dense model, or are not written.

Parents: weights; `answers`, what they answered in the stage `tasks`; `dense`, what the untouched
weights of the same model answered there, and without it the weights are that themselves. Out: a
folder a task, `<place>-<task>`, with `scores.parquet` (metric, id, value: one row an item and
metric) and `samples.parquet` (what was written, and whether it is right). Items are right by
likelihood as `answers` and `dense` have them; nothing is scored again. The weights are measured
after loading, and must be those that answered.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from prunegrid.artifacts.artifact_folder import MANIFEST
from prunegrid.artifacts.parts import held_in
from prunegrid.common import precision
from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import json_sha256, read_json
from prunegrid.evaluation.harness.task_scores import SCORES
from prunegrid.models import open_checkpoint

DOES = "write answers"
RULE = "write_answers"
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
CITE = ("dutta2024accuracy", "wen2026benchmark")

SAMPLES = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "prompt", "written")),
        ("right_options", pa.list_(pa.string())),
        *((name, pa.bool_()) for name in ("dense_right", "right", "written_right")),
    ]
)
# {metric: whether more of it is better}; None of what a broken model has more of by chance.
METRICS = {
    "flips_right_wrong": False,
    "flips_wrong_right": None,
    "recognised": True,
    "produced": True,
    "recognised_not_produced": False,
}

# What the record of a task has from that of the stage `tasks`.
OF_TASK = ("task", "version", "harness", "shots", "items_sha256", "answers_sha256")


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"parts": {folder: record of a task}, "weights": WEIGHTS RECORD}.

    Args:
        settings: {"right_by": {folder of a task: the accuracy that says what is right},
            "batch_size", "cache_dequantized"}.
        parents: {"weights": a weights artifact of a causal model, "answers"}, and "dense" where
            that is another artifact than "answers".

    Raises:
        PrunegridError: a task has no items with options that can be written.
        AttestationError: other weights or items than these were asked.
    """
    # It imports the harness: seconds.
    from prunegrid.evaluation.harness import written_answers

    own, dense = parents["answers"], parents.get("dense", parents["answers"])
    # Items that cannot be written are found before weights are read.
    items = {folder: _items(own / folder, job.where) for folder in settings["right_by"]}
    loaded = open_checkpoint.load(
        parents["weights"],
        job.device,
        settings["cache_dequantized"],
        compute_dtype=precision.of_job(job),
        asked_by="answers",
        where=job.where,
    )
    asked = read_json(own / MANIFEST)["record"]
    _require_same(asked, loaded.record, read_json(dense / MANIFEST)["record"], items, own)
    parts = {}
    for folder, metric in settings["right_by"].items():
        texts, cut = written_answers.write(
            loaded, items[folder], settings["batch_size"], job.device, job.where
        )
        frame = pandas.DataFrame(map(vars, items[folder]))
        frame = frame.rename(columns={"right": "right_options"}).assign(written=texts)
        frame["dense_right"] = _right(dense / folder, metric, frame["id"])
        frame["right"] = _right(own / folder, metric, frame["id"])
        frame["written_right"] = list(map(written_answers.is_right, texts, frame["right_options"]))
        (out / folder).mkdir()
        of_task = asked["parts"][folder]
        parts[folder] = _write(frame, out / folder, of_task["summary"][metric]["chance"]) | {
            **{name: of_task[name] for name in OF_TASK},
            "right_by": metric,
            "contexts_cut": cut,
        }
    return {"parts": parts, "weights": loaded.record}


def _items(folder: Path, where: str) -> list[Any]:
    """Return the items of a task that was answered."""
    from prunegrid.evaluation.harness import written_answers

    samples = pq.read_table(folder / "samples.parquet").to_pylist()
    definition = yaml.safe_load((folder / "definition.yaml").read_text(encoding="utf-8"))
    return written_answers.items_of(samples, definition, f"{where}: {held_in(folder.name)}")


def _require_same(
    asked: dict, weights: dict, dense: dict, folders: Iterable[str], at: Path
) -> None:
    """Check that these weights answered, and the same items as the dense model."""
    if asked["weights"] != weights:
        raise AttestationError(
            "other weights answered the tasks",
            where=str(at),
            remedy="delete the folder and run again",
        )
    for folder in folders:
        if dense["parts"][folder]["items_sha256"] != asked["parts"][folder]["items_sha256"]:
            raise AttestationError(
                f"the dense model was asked other items of {held_in(folder)}",
                where=str(at),
                remedy="delete the folder, and that of the dense model, and run again",
            )


def _right(folder: Path, metric: str, ids: pandas.Series) -> list[bool]:
    """Return which items were right by likelihood."""
    scores = pandas.read_parquet(folder / "scores.parquet")
    return (scores[scores["metric"] == metric].set_index("id")["value"][ids] == 1).tolist()


def _write(frame: pandas.DataFrame, out: Path, chance: float | None) -> dict[str, Any]:
    """Write the files of a task; return {summary, rows, written_sha256}.

    Args:
        frame: `samples.parquet`.
        chance: of choosing a right option: the least that recognising and writing it must exceed.
    """
    pq.write_table(pa.Table.from_pandas(frame, SAMPLES), out / "samples.parquet")
    before, after, written = frame["dense_right"], frame["right"], frame["written_right"]
    shares = {
        "flips_right_wrong": before & ~after,
        "flips_wrong_right": ~before & after,
        "recognised": after,
        "produced": written,
        "recognised_not_produced": after & ~written,
    }
    values = {metric: shares[metric].astype(float).tolist() for metric in METRICS}
    rows = [
        pandas.DataFrame({"metric": metric, "id": frame["id"], "value": values[metric]})
        for metric in METRICS
    ]
    table = pa.Table.from_pandas(pandas.concat(rows), SCORES, preserve_index=False)
    pq.write_table(table, out / "scores.parquet")
    summary = {metric: _summary(values[metric], upwards) for metric, upwards in METRICS.items()}
    for metric in ("recognised", "produced"):
        summary[metric]["chance"] = chance
    digest = json_sha256(frame[["id", "written"]].values.tolist())
    return {"summary": summary, "rows": len(frame), "written_sha256": digest}


def _summary(values: list[float], upwards: bool | None) -> dict[str, Any]:
    """Return the summary of a share of items."""
    n = len(values)
    return {
        "mean": statistics.fmean(values),
        "stderr": statistics.stdev(values) / math.sqrt(n) if n > 1 else None,
        "n": n,
        "higher_is_better": upwards,
        "items": True,
        "chance": None,
        "majority": None,
    }
