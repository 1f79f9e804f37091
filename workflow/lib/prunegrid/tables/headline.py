"""Scores that a study's page and figure show: those that it names, or the usual ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas

from prunegrid.tables.near_dense import DISTANCES
from prunegrid.tables.schema import Plan

# Metrics of the narrow table, in order; a name that ends in _ stands for all that begin so.
_HEADLINE = (
    *("rouge1", "rouge2", "rougeLsum", "bertscore", "bertscore_", "rep4", "length_ratio", "ppl_"),
    *("word_perplexity", "word_perplexity_", "acc", "mcc", "exact_match"),
    *("bleu", "bleu_", "chrf", "chrf_corpus"),
    *("agreement", "kl", "flips_right_wrong", "flips_wrong_right"),
    *("recognised", "produced", "recognised_not_produced"),
)
# Of the metrics of a split, the one that a figure shows.
_MAIN = ("rougeLsum", "rouge1", "chrf", "bleu", "acc", "mcc", "exact_match", "produced")


@dataclass(frozen=True)
class Measure:
    """The score that one panel of a figure shows."""

    split: str  # split of documents, or name of an evaluation or task
    metric: str  # column of the metric
    higher_is_better: bool | None  # None where neither is
    n: int | None  # items of most cells; None if unknown
    is_task: bool  # whether a benchmark or classification gave it
    chance: float | None  # what a guess scores; None if unknown or not the same for all cells

    @property
    def key(self) -> tuple[str, str]:
        """Return (split, metric)."""
        return (self.split, self.metric)

    @property
    def wants_log(self) -> bool:
        """Return whether its axis is logarithmic: perplexities are ratios."""
        return is_perplexity(self.metric)

    @property
    def ranks(self) -> bool:
        """Return whether it says which of two models is better; a distance from dense does not."""
        return self.higher_is_better is not None and self.metric not in DISTANCES


def is_perplexity(metric: str) -> bool:
    """Return whether a metric's name is that of a perplexity."""
    return metric.startswith(("ppl_", "word_perplexity"))


def headline(plan: Plan, tall: pandas.DataFrame) -> list[tuple[str, str]]:
    """Return the (split, metric) pairs that a narrow table shows, split by split.

    These are the pairs that the study's `show` names; without it the usual ones and a user's own.
    """
    pairs = _pairs(tall)
    usual = []
    for split, metrics in _by_split(pairs).items():
        chosen = [*headline_of(metrics), *_chosen(plan.get("own_metrics", ()), metrics)]
        usual += [(split, metric) for metric in dict.fromkeys(chosen)]
    return _named(plan, pairs) or usual or pairs[:6]


def headline_of(metrics: Sequence[str]) -> list[str]:
    """Return those of the metrics that a narrow table shows, in its order."""
    return _chosen(_HEADLINE, metrics)


def measures_of(plan: Plan, tall: pandas.DataFrame) -> list[Measure]:
    """Return the measures that a figure shows, perplexities last.

    These are the pairs that `show` names. Without it, of each split the metric of its declared
    contrasts or the best known one; a task that is part of a mean is left to the mean; and a
    user's own metrics. Distances from the dense model are left out.
    """
    rows = tall[(tall["kind"] == "cell") & tall["value"].notna()]
    pairs = _pairs(rows)
    main = sorted(_main(plan, pairs), key=lambda pair: is_perplexity(pair[1]))
    return [measure_of(rows, *pair) for pair in _named(plan, pairs) or main]


def measure_of(tall: pandas.DataFrame, split: str, metric: str) -> Measure:
    """Return a measure, with the facts that the long table has of it."""
    rows = tall[(tall["kind"] == "cell") & tall["value"].notna()]
    own = rows[(rows["split"] == split) & (rows["metric"] == metric)]
    better = own["higher_is_better"].dropna()
    chance = own["chance"].dropna().unique()
    count = own["n"].dropna()
    return Measure(
        split,
        metric,
        bool(better.iloc[0]) if len(better) else None,
        int(count.mode().iloc[0]) if len(count) else None,
        bool(own["harness"].notna().any()) or metric in ("acc", "mcc"),
        float(chance[0]) if len(chance) == 1 and not is_perplexity(metric) else None,
    )


def _main(plan: Plan, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the main metric of each split, and a user's own metrics."""
    splits, means = _by_split(pairs), plan.get("means", {})
    in_means = {task for name in means if name in splits for task in means[name]["tasks"]}
    declared = {c["split"]: c["metric"] for c in plan.get("contrasts", ()) if c["metric"]}
    shown = []
    for split, metrics in splits.items():
        if split not in in_means and not set(metrics) <= set(DISTANCES):
            own = _chosen(plan.get("own_metrics", ()), metrics)
            wanted = [declared.get(split), *_MAIN, *headline_of(metrics), *own, *metrics]
            main = next(metric for metric in wanted if metric in metrics)
            shown += [(split, metric) for metric in metrics if metric == main or metric in own]
    return shown


def _pairs(tall: pandas.DataFrame) -> list[tuple[str, str]]:
    """Return the (split, metric) pairs of a long table, each once."""
    return list(dict.fromkeys(zip(tall["split"], tall["metric"], strict=True)))


def _by_split(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Return {split: its metrics}."""
    splits: dict[str, list[str]] = {}
    for split, metric in pairs:
        splits.setdefault(split, []).append(metric)
    return splits


def _named(plan: Plan, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the pairs that the study's `show` names, in its order."""
    return [
        (split, metric)
        for name in plan.get("show", ())
        for split, metric in pairs
        if name in (metric, f"{split}_{metric}")
    ]


def _chosen(names: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Return the metrics that names choose, in their order; "x_" chooses all that begin so."""
    return [
        metric
        for name in names
        for metric in metrics
        if metric == name or (name.endswith("_") and metric.startswith(name))
    ]
