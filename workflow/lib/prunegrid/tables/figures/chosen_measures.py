"""Which measures a study's figure and page show: those that it names, or the main ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas

from prunegrid.tables.headline import headline_of, is_perplexity, named, picked_of

# Of the metrics of a split, the one that a figure shows.
_MAIN = ("rougeLsum", "rouge1", "chrf", "bleu", "acc", "mcc", "exact_match")


@dataclass(frozen=True)
class Measure:
    """What one panel shows.

    Attributes:
        split: split of documents, or name of an evaluation or task.
        metric: column of the metric.
        higher_is_better: None where neither is.
        n: items of most cells; None if unknown.
        is_task: whether a benchmark or classification gave it.
        chance: what a guess scores; None if unknown or not the same for all cells.
    """

    split: str
    metric: str
    higher_is_better: bool | None
    n: int | None
    is_task: bool
    chance: float | None

    @property
    def key(self) -> tuple[str, str]:
        """Return (split, metric)."""
        return (self.split, self.metric)

    @property
    def wants_log(self) -> bool:
        """Return whether its axis is logarithmic: perplexities are ratios."""
        return is_perplexity(self.metric)


def measures_of(plan: Mapping[str, Any], tall: pandas.DataFrame) -> list[Measure]:
    """Return what a study shows, perplexities last.

    These are the pairs that `show` names. Without it, of each split the metric of its declared
    contrasts or the best known one; a task that is part of a mean is left to the mean; and a
    user's own metrics.
    """
    rows = tall[(tall["kind"] == "cell") & tall["value"].notna()]
    pairs = list(dict.fromkeys(zip(rows["split"], rows["metric"], strict=True)))
    main = sorted(_main(plan, pairs), key=lambda pair: is_perplexity(pair[1]))
    return [measure_of(rows, *pair) for pair in named(plan, pairs) or main]


def _main(plan: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the main metric of each split, and a user's own metrics."""
    means = plan.get("means", {})
    there = {split for split, _ in pairs}
    part = {task for name in there & set(means) for task in means[name]["tasks"]}
    declared = {c["split"]: c["metric"] for c in plan.get("contrasts", ()) if c["metric"]}
    found = []
    for split in dict.fromkeys(split for split, _ in pairs if split not in part):
        metrics = [metric for place, metric in pairs if place == split]
        own = picked_of(plan.get("own_metrics", ()), metrics)
        main = _first([declared.get(split), *_MAIN, *headline_of(metrics), *own], metrics)
        found += [(split, metric) for metric in metrics if metric == main or metric in own]
    return found


def _first(wanted: Iterable[str | None], there: Sequence[str]) -> str:
    """Return the first wanted metric that is there; without one the first that is there."""
    return next((metric for metric in wanted if metric in there), there[0])


def measure_of(tall: pandas.DataFrame, split: str, metric: str) -> Measure:
    """Return a measure, with what the long table says of it."""
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
