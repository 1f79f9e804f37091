"""The results of a task that are kept: a summary, each item's score, prompts and answers.

Names of metrics are the harness', with the filter's name where it has one (`exact_match_strict`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prunegrid.common.errors import PrunegridError, nearest

SCORES = pa.schema([("metric", pa.string()), ("id", pa.string()), ("value", pa.float64())])
HASHES = ("doc_hash", "prompt_hash", "target_hash")
SAMPLES = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "subtask", "filter", *HASHES, "prompt")),
        ("continuations", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("target", "responses", "metrics")),
    ]
)
# The seed of the harness' command line, so that drawn shots are those of published numbers.
SEED = 1234
# Of intervals and of the harness' standard errors of F1, correlation and the like; those of means
# need none.
RESAMPLES = 1000
# Accuracies among choices, where a uniform guess and the commonest answer have a score too.
OF_CHOICES = ("acc", "acc_norm", "acc_bytes")


def sample_rows(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row an item and filter: its ids and hashes, prompt, choices, answer, responses.

    Args:
        samples: {task: samples that the harness logged}.
    """
    return [
        {
            "id": f"{task}:{sample['doc_id']}",
            "subtask": task,
            "filter": sample["filter"],
            **{name: sample[name] for name in HASHES},
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
    results: Mapping[str, Any],
    name: str,
    metrics: Sequence[str],
    where: str,
    aggregations: Mapping[str, Callable[[list], float]],
) -> dict[str, dict[str, Any]]:
    """Return {metric: mean, stderr, n, higher_is_better, items, chance, majority}.

    A metric of all items together has `low` and `high` too, the ends of its interval.

    Args:
        results: of the harness, samples included.
        name: of the task or group.
        metrics: to keep.
        aggregations: {metric: the function of all items' values that the task scores by}; {} of a
            group.

    Raises:
        PrunegridError: the task has no such metric.
    """
    numbers = _numbers(results["results"][name])
    require_metrics(metrics, numbers, name, where)
    samples = [sample for kept in results["samples"].values() for sample in kept]
    upwards = {m: up for of in results["higher_is_better"].values() for m, up in of.items()}
    levels = _guesses(results)
    summary = {}
    for full in metrics:
        metric, value, stderr = numbers[full]
        values = [
            sample[metric]
            for sample in samples
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
        if not summary[full]["items"] and metric in aggregations:
            summary[full] |= _resampled(values, aggregations[metric])
        if metric == "mcc":  # no guess correlates with the answer
            summary[full] |= {"chance": 0.0, "majority": 0.0}
    return summary


def _numbers(values: Mapping[str, Any]) -> dict[str, tuple[str, float, Any]]:
    """Return {metric after its filter: (metric, value, standard error)} of a task's results."""
    numbers = {}
    for key, value in values.items():
        metric, comma, kept = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            stderr = values.get(f"{metric}_stderr,{kept}")
            numbers[metric_name(metric, kept)] = (metric, value, stderr)
    return numbers


def percentiles(drawn: Sequence[float]) -> dict[str, float]:
    """Return {low, high}: the 95% percentile interval of bootstrapped scores.

    Its ends are scores of resampled items, so they lie in the metric's range.
    """
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"low": float(low), "high": float(high)}


def _resampled(values: list, aggregate: Callable[[list], float]) -> dict[str, float]:
    """Return the interval of a score that is made of the values of all items."""
    draw, count = np.random.default_rng(SEED), len(values)
    picks = (draw.integers(0, count, size=count) for _ in range(RESAMPLES))
    return percentiles([float(aggregate([values[i] for i in pick])) for pick in picks])


def require_metrics(metrics: Iterable[str], known: Collection[str], name: str, where: str) -> None:
    """Check that a task has these metrics; PrunegridError where it lacks one."""
    for metric in metrics:
        if metric not in known:
            what = f"the task '{name}' has no metric {metric!r}"
            raise PrunegridError(what, where=where, remedy=nearest(metric, known))


def _guesses(results: Mapping[str, Any]) -> dict[str, float | None]:
    """Return {chance, majority} of an accuracy among choices; None where there are none.

    `chance` is the mean over items of one in its number of choices. `majority` is the share of the
    answer that is right most often, where all items have the same choices; where each has its own,
    no answer is commoner than another.
    """
    shares, answers, all_choices = [], Counter(), set()
    for task, kept in results["samples"].items():
        if results["configs"][task].get("output_type") != "multiple_choice":
            return {"chance": None, "majority": None}
        for sample in kept:
            choices = tuple(str(pair[-1]).strip() for pair in sample["arguments"])
            shares.append(1 / len(choices))
            all_choices.add(choices)
            answers[str(sample["target"])] += 1
    if not shares:
        return {"chance": None, "majority": None}
    commonest = answers.most_common(1)[0][1] / len(shares) if len(all_choices) == 1 else None
    return {"chance": math.fsum(shares) / len(shares), "majority": commonest}


def subtasks(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {task: version, shots, n, metrics} of each part of a group, and of the task itself."""
    parts = {}
    for task, values in results["results"].items():
        parts[task] = {
            "version": str(results["versions"].get(task)),
            "shots": results["n-shot"].get(task),
            "n": values.get("sample_len"),
            "metrics": {
                key.removesuffix(",none"): float(value)
                for key, value in values.items()
                if "," in key and isinstance(value, (int, float))
            },
        }
    return parts


def metric_name(metric: str, kept: str) -> str:
    """Return the name of a metric after a filter."""
    return metric if kept == "none" else f"{metric}_{kept}"


def _is_mean(value: float, values: Sequence[Any]) -> bool:
    """Return whether a score is the mean of its items' scores, which can then be resampled."""
    if not values or not all(isinstance(v, (int, float)) for v in values):
        return False
    return math.isclose(math.fsum(values) / len(values), value, rel_tol=1e-9, abs_tol=1e-12)


def _json(value: Any) -> str:
    """Return JSON of numbers, texts and what holds them; numpy's numbers as Python's."""
    return json.dumps(value, default=lambda v: v.item() if hasattr(v, "item") else str(v))
