"""Scores of stored predictions: metrics computed from texts alone, example by example."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation import metric_loader
from prunegrid.evaluation.metric_loader import is_number

log = logging.getLogger(__name__)


class Scores(NamedTuple):
    """Scores of one set of predictions.

    Attributes:
        examples: one row a prediction in the given order: id and one float64 column a score; NaN
            where an example has no score of its own.
        summary: {column: {mean, n, higher_is_better}}: the mean over the n examples with a score
            (None where n is 0); for a number of the whole corpus that number, and n of all
            examples.
        facts: {metric: {module, code_sha256, settings, versions, details (what else it returned)}}.
    """

    examples: pd.DataFrame
    summary: dict[str, dict[str, Any]]
    facts: dict[str, dict[str, Any]]


def score(
    predictions: pd.DataFrame,
    metrics: Mapping[str, Mapping[str, Any]],
    model_paths: Mapping[str, Path] | None = None,
    device: str = "cpu",
) -> Scores:
    """Return the scores of predictions against their references.

    Args:
        predictions: columns id, reference, prediction (all str), and any further column that a
            metric names among its features.
        metrics: {name: settings}, see `metric_loader.load`. A metric whose name is not its
            module's has it before its columns: {"plain": {"module": "rouge", "stemmer": False}}
            gives plain_rouge1; a column of the module's own name takes the metric's.
        model_paths: {metric name: model folder} of the metrics that need one.
        device: where those models run.

    Raises:
        PrunegridError: predictions that are not texts, an unknown metric, or one that does not
            return what it declares.
    """
    check_predictions(predictions)
    examples = pd.DataFrame({"id": predictions["id"].to_list()})
    summary: dict[str, dict[str, Any]] = {}
    facts = {}
    for name, settings in metrics.items():
        metric = metric_loader.load(name, settings)
        results = metric.compute(predictions, (model_paths or {}).get(name), device)
        columns, details = metric.columns(results, len(predictions))
        for column, values, higher_is_better in columns:
            if column in summary:
                where = f"metric {name}"
                raise PrunegridError(f"two metrics give the column {column}", where=where)
            summary[column], examples[column] = _reduced(column, values, predictions["id"])
            summary[column]["higher_is_better"] = higher_is_better
        facts[name] = metric.facts() | {"details": details}
        log.info("metric %s: %s", name, {c: summary[c]["mean"] for c, _, _ in columns})
    return Scores(examples, summary, facts)


def count_empty(predictions: pd.DataFrame) -> int:
    """Return how many predictions hold nothing but white space."""
    return sum(not text.strip() for text in predictions["prediction"])


def _reduced(column: str, values: Any, ids: pd.Series) -> tuple[dict[str, Any], pd.Series]:
    """Return a column's {mean, n} and its float64 values by example."""
    if is_number(values):
        if not math.isfinite(values):
            raise PrunegridError(f"{column} is {values}", where="scores of the corpus")
        no_score = pd.Series([math.nan] * len(ids), dtype="float64")
        return {"mean": float(values), "n": len(ids), "corpus": True}, no_score
    for identifier, value in zip(ids, values, strict=True):
        if value is not None and not (is_number(value) and math.isfinite(value)):
            raise PrunegridError(
                f"{column} is {value!r}",
                where=f"scores of the example {identifier}",
                expected="a finite number, or None where there is no score",
            )
    scored = [float(value) for value in values if value is not None]
    mean = math.fsum(scored) / len(scored) if scored else None
    series = pd.Series([math.nan if value is None else float(value) for value in values])
    return {"mean": mean, "n": len(scored)}, series.astype("float64")


def check_predictions(predictions: pd.DataFrame) -> None:
    """Check that predictions have texts, unique ids and references that are not empty.

    Raises:
        PrunegridError: they do not.
    """
    where = "predictions"
    if predictions.empty:
        raise PrunegridError("there are no rows", where=where)
    for column in ("id", "prediction", "reference"):
        if column not in predictions:
            raise PrunegridError(
                f"the column {column} is missing",
                where=where,
                expected=f"id, reference, prediction; found {list(predictions.columns)}",
            )
        for row, value in enumerate(predictions[column]):
            if not isinstance(value, str):
                raise PrunegridError(
                    f"row {row} has a {type(value).__name__} as {column}",
                    where=where,
                    expected="text (str), not token ids or null",
                )
    double = predictions["id"][predictions["id"].duplicated()]
    if len(double):
        raise PrunegridError(f"the id {double.iloc[0]} occurs twice", where=where)
    for identifier, reference in zip(predictions["id"], predictions["reference"], strict=True):
        if not reference.strip():
            raise PrunegridError(
                f"the reference of {identifier} is empty",
                where=where,
                remedy="leave such examples out of the data set",
            )
