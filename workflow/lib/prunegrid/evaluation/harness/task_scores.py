"""What is kept of a task's results: a summary, each item's score, what was asked and answered.

Names of metrics are the harness', with the filter's name where it has one (`exact_match_strict`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from prunegrid.common.errors import PrunegridError, nearest

SCORES = pa.schema([("metric", pa.string()), ("id", pa.string()), ("value", pa.float64())])
SAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("subtask", pa.string()),
        ("filter", pa.string()),
        ("doc_hash", pa.string()),
        ("prompt_hash", pa.string()),
        ("target_hash", pa.string()),
        ("prompt", pa.string()),
        ("continuations", pa.list_(pa.string())),
        ("target", pa.string()),
        ("responses", pa.string()),
        ("metrics", pa.string()),
    ]
)
# Scores of a uniform guess among an item's choices, and of always the commonest answer.
OF_CHOICES = ("acc", "acc_norm", "acc_bytes")


def sample_rows(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row an item and filter: its ids and hashes, prompt, choices, answer, responses.

    Args:
        samples: {task: the harness' logged samples}.
    """
    return [
        {
            "id": f"{task}:{sample['doc_id']}",
            "subtask": task,
            "filter": sample["filter"],
            **{name: sample[name] for name in ("doc_hash", "prompt_hash", "target_hash")},
            "prompt": str(sample["arguments"][0][0]),
            "continuations": [str(pair[1]) for pair in sample["arguments"] if len(pair) > 1],
            "target": _json(sample["target"]),
            "responses": _json(sample["resps"]),
            "metrics": _json({name: sample[name] for name in sample["metrics"]}),
        }
        for task, kept in samples.items()
        for sample in kept
    ]


def score_rows(
    samples: Mapping[str, Sequence[Mapping[str, Any]]], summary: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row {metric, id, value} for each item and metric of the summary.

    Metrics of all items together (F1, correlation) have no score of one.
    """
    rows = []
    for task, kept in samples.items():
        for sample in kept:
            for name in sample["metrics"]:
                metric = metric_name(name, sample["filter"])
                if metric in summary and summary[metric]["items"]:
                    identity = f"{task}:{sample['doc_id']}"
                    rows.append({"metric": metric, "id": identity, "value": float(sample[name])})
    return rows


def summarize(
    results: Mapping[str, Any], name: str, metrics: Sequence[str], where: str
) -> dict[str, dict[str, Any]]:
    """Return {metric: mean, stderr, n, higher_is_better, items, chance, majority}.

    Args:
        results: of the harness, samples included.
        name: the task or group.
        metrics: those to keep.

    Raises:
        PrunegridError: the task has no such metric.
    """
    found = {}
    for key, value in results["results"][name].items():
        metric, comma, kept = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            stderr = results["results"][name].get(f"{metric}_stderr,{kept}")
            found[metric_name(metric, kept)] = (metric, value, stderr)
    require_metrics(metrics, found, name, where)
    samples = results["samples"]
    upwards = {m: up for of in results["higher_is_better"].values() for m, up in of.items()}
    levels = chance_levels(results)
    summary = {}
    for full in metrics:
        metric, value, stderr = found[full]
        values = [
            sample[metric]
            for kept in samples.values()
            for sample in kept
            if metric in sample["metrics"] and metric_name(metric, sample["filter"]) == full
        ]
        summary[full] = {
            "mean": float(value),
            "stderr": float(stderr) if isinstance(stderr, (int, float)) else None,
            "n": len(values),
            "higher_is_better": upwards.get(metric),
            "items": _is_mean(value, values),
            **(levels if metric in OF_CHOICES else {"chance": None, "majority": None}),
        }
        if metric == "mcc":  # no guess correlates with the answer
            summary[full] |= {"chance": 0.0, "majority": 0.0}
    return summary


def require_metrics(metrics: Iterable[str], known: Collection[str], name: str, where: str) -> None:
    """Check that a task has metrics.

    Raises:
        PrunegridError: it lacks one.
    """
    for metric in metrics:
        if metric not in known:
            raise PrunegridError(
                f"the task '{name}' has no metric {metric!r}",
                where=where,
                remedy=nearest(metric, known),
            )


def chance_levels(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return {chance, majority} of an accuracy among choices; None where there are none.

    `chance` is the mean over items of one in its number of choices. `majority` is the share of the
    answer that is right most often, where all items have the same choices; where each has its own,
    no answer is commoner than another.
    """
    shares, answers, seen = [], Counter(), set()
    for task, kept in results["samples"].items():
        if results["configs"][task].get("output_type") != "multiple_choice":
            return {"chance": None, "majority": None}
        for sample in kept:
            choices = tuple(str(pair[-1]).strip() for pair in sample["arguments"])
            shares.append(1 / len(choices))
            seen.add(choices)
            answers[str(sample["target"])] += 1
    if not shares:
        return {"chance": None, "majority": None}
    commonest = answers.most_common(1)[0][1] / len(shares) if len(seen) == 1 else None
    return {"chance": math.fsum(shares) / len(shares), "majority": commonest}


def subtasks(results: Mapping[str, Any], name: str) -> dict[str, dict[str, Any]]:
    """Return {task: version, shots, n, metrics} of each part of a group, and of the task itself."""
    found = {}
    for task, values in results["results"].items():
        numbers = {
            key.removesuffix(",none"): value
            for key, value in values.items()
            if "," in key and isinstance(value, (int, float))
        }
        found[task] = {
            "version": str(results["versions"].get(task)),
            "shots": results["n-shot"].get(task),
            "n": values.get("sample_len"),
            "metrics": {key: float(value) for key, value in numbers.items()},
        }
    return found


def metric_name(metric: str, kept: str) -> str:
    """Return the name of a metric after a filter."""
    return metric if kept == "none" else f"{metric}_{kept}"


def _is_mean(value: float, values: Sequence[Any]) -> bool:
    """Whether a score is the mean of its items', so that items can be compared and resampled."""
    if not values or not all(isinstance(v, (int, float)) for v in values):
        return False
    return math.isclose(math.fsum(values) / len(values), value, rel_tol=1e-9, abs_tol=1e-12)


def _json(value: Any) -> str:
    """Return JSON of numbers, texts and what holds them; numpy's numbers as Python's."""
    return json.dumps(value, default=lambda v: v.item() if hasattr(v, "item") else str(v))
