"""From comparisons to a verdict on a conclusion.

A conclusion of the quantifier "all" (method A is better than B) holds where every comparison
speaks for it, and is refuted by one that speaks against it; one of "some" (A is not always better)
holds by one comparison for it and is refuted where every one speaks against it. Where one among
several decides, its p-value is Holm's over all of them; where all must agree, each is taken as it
is (an intersection-union test needs no correction). What is not decided is "cannot tell".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from prunegrid.tables.inference import LEVEL, holm

HOLDS, REFUTED, UNDECIDED, UNTESTED = "holds", "refuted", "cannot tell", "not tested"
# Half the width of a 95% interval in standard errors.
Z = NormalDist().inv_cdf(1 - LEVEL / 2)


@dataclass(frozen=True)
class Comparison:
    """One comparison that a conclusion speaks about.

    Attributes:
        study, dataset, split, metric: where it was measured; split is "" for a column of the table.
        models: the models in it: one, or the two that were compared.
        a, b: the two sides.
        effect: what `value` is: "difference" (a - b) or "ratio" (a / b); of the kind sensitivity
            "difference of relative losses", of the kind chance "score" (that of a alone).
        value, low, high: it and its 95% interval; no interval where it has no error.
        support: distance from what the conclusion claims; positive speaks for it.
        p: two-sided, of a support of zero.
        n, seeds: items, and the smaller number of seeds; None where there are none.
        note: what makes it no evidence, or "".
    """

    study: str
    models: tuple[str, ...]
    dataset: str
    split: str
    metric: str
    a: str
    b: str
    effect: str
    value: float
    low: float | None
    high: float | None
    support: float
    p: float
    n: int | None = None
    seeds: int | None = None
    note: str = ""

    @property
    def speaks(self) -> str:
        """ "for", "against" or "neither", by itself."""
        if self.p > LEVEL or self.support == 0:
            return "neither"
        return "for" if self.support > 0 else "against"


def p_value(support: float, error: float) -> float:
    """Return the two-sided p-value of an estimate with a standard error, by the normal law."""
    if error == 0:
        return 1.0 if support == 0 else 0.0
    return 2 * NormalDist().cdf(-abs(support / error))


def decide(comparisons: Sequence[Comparison], quantifier: str) -> str:
    """Return the verdict that comparisons give on a conclusion of a quantifier, all or some."""
    if not comparisons:
        return UNTESTED
    alone = [c.speaks for c in comparisons]
    corrected = holm([c.p for c in comparisons])
    among = {
        c.speaks
        for c, p in zip(comparisons, corrected, strict=True)
        if p is not None and p <= LEVEL
    }
    if quantifier == "all":
        if "against" in among:
            return REFUTED
        return HOLDS if set(alone) == {"for"} else UNDECIDED
    if "for" in among:
        return HOLDS
    return REFUTED if set(alone) == {"against"} else UNDECIDED


def scaled(effect: str, value: float, error: float) -> dict[str, float]:
    """Return {value, low, high} of an effect; of a ratio `value` is the logarithm."""
    shown = math.exp if effect == "ratio" else float
    bounds = {"value": value, "low": value - Z * error, "high": value + Z * error}
    return {name: shown(bound) for name, bound in bounds.items()}
