"""Which scores a study's page and figure show: those that it names, or the usual ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas

# Metrics of the narrow table, in order; a name that ends in _ stands for all that begin so.
_HEADLINE = (
    "rouge1",
    "rouge2",
    "rougeLsum",
    "bertscore",
    "bertscore_",
    "rep4",
    "length_ratio",
    "ppl_",
    "word_perplexity",
    "word_perplexity_",
    "acc",
    "mcc",
    "exact_match",
    "bleu",
    "bleu_",
    "chrf",
    "chrf_corpus",
)


def is_perplexity(metric: str) -> bool:
    """Return whether a metric's name is that of a perplexity."""
    return metric.startswith(("ppl_", "word_perplexity"))


def named(plan: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the (split, metric) pairs that the study's `show` names, in its order."""
    return [
        (split, metric)
        for name in plan.get("show", ())
        for split, metric in pairs
        if name in (metric, f"{split}_{metric}")
    ]


def headline(plan: Mapping[str, Any], tall: pandas.DataFrame) -> list[tuple[str, str]]:
    """Return the (split, metric) pairs that a narrow table shows, split by split.

    These are the pairs that the study's `show` names; without it the usual ones and a user's own.
    """
    pairs = list(dict.fromkeys(zip(tall["split"], tall["metric"], strict=True)))
    own = plan.get("own_metrics", ())
    usual = []
    for split in dict.fromkeys(split for split, _ in pairs):
        metrics = [metric for place, metric in pairs if place == split]
        picked = [*headline_of(metrics), *picked_of(own, metrics)]
        usual += [(split, metric) for metric in dict.fromkeys(picked)]
    return named(plan, pairs) or usual or pairs[:6]


def headline_of(metrics: Sequence[str]) -> list[str]:
    """Return those of the metrics that a narrow table shows, in its order."""
    return picked_of(_HEADLINE, metrics)


def picked_of(names: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Return the metrics that names choose, in their order; "x_" chooses all that begin so."""
    return [
        metric
        for wanted in names
        for metric in metrics
        if metric == wanted or (wanted.endswith("_") and metric.startswith(wanted))
    ]
