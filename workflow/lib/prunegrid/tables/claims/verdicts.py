"""The verdict on each conclusion, from its comparisons.

A conclusion about all comparisons holds where every one speaks for it, and is refuted by one that
speaks against it. One about some holds by one for it, and is refuted where every one is against it.
Where one among several decides, its p-value is Holm's over all of them. Where all must agree, each
counts as it is: an intersection-union test needs no correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prunegrid.config.conclusions import Conclusion
from prunegrid.tables.claims.comparisons import KINDS, Row, named
from prunegrid.tables.finished import Finished
from prunegrid.tables.inference import LEVEL, holm

HOLDS, REFUTED, UNDECIDED, UNTESTED = "holds", "refuted", "cannot tell", "not tested"


@dataclass(frozen=True)
class Outcome:
    """A conclusion with its comparisons: those of its scope, which decide it, and all others.

    The others are keyed by (models, dataset, split, metric).
    """

    name: str
    claim: Conclusion
    within: list[Row]
    elsewhere: dict[tuple[str, ...], list[Row]]

    @property
    def verdict(self) -> str:
        """Return holds, refuted, cannot tell or not tested."""
        return decide(self.within, self.claim.quantifier)


def judge(tables: Finished, claims: Mapping[str, Conclusion]) -> list[Outcome]:
    """Return each conclusion with the comparisons that finished tables have."""
    outcomes = [Outcome(name, claim, [], {}) for name, claim in claims.items()]
    for outcome in outcomes:
        scope = outcome.claim.scope.model_dump()
        for row in KINDS[outcome.claim.kind](outcome.claim, tables):
            models = row["models"].split(" and ")
            inside = all(named(model, scope["model"]) for model in models)
            if inside and all(named(row[key], scope[key]) for key in scope.keys() - {"model"}):
                outcome.within.append(row)
                continue
            where = tuple(row[key] for key in ("models", "dataset", "split", "metric"))
            outcome.elsewhere.setdefault(where, []).append(row)
    return outcomes


def speaks(comparison: Row, p: float | None = None) -> str:
    """Return "for", "against" or "neither": by itself, or with a corrected p-value."""
    if (comparison["p"] if p is None else p) > LEVEL or comparison["support"] == 0:
        return "neither"
    return "for" if comparison["support"] > 0 else "against"


def decide(comparisons: Sequence[Row], quantifier: str) -> str:
    """Return the verdict that comparisons give on a conclusion of a quantifier, all or some."""
    if not comparisons:
        return UNTESTED
    corrected = holm([row["p"] for row in comparisons])
    by_one, by_all = ("against", REFUTED), ("for", HOLDS)
    if quantifier == "some":
        by_one, by_all = by_all, by_one
    if by_one[0] in map(speaks, comparisons, corrected):
        return by_one[1]
    return by_all[1] if {speaks(row) for row in comparisons} == {by_all[0]} else UNDECIDED
