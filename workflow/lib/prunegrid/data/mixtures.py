"""Shares of a mixture: how many rows it takes of each part."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prunegrid.common.errors import PrunegridError


def counts(
    available: Mapping[str, int],
    weights: Mapping[str, float | None],
    rows: int | None,
    where: str,
) -> dict[str, int]:
    """Return how many rows each part gives.

    With weights, each part has its exact share (by largest remainder) of `rows`, or of as many as
    the scarcest part allows; no row is repeated. Without, parts are mixed by their (capped) sizes,
    as examples-proportional mixing does (Raffel et al. 2020, section 3.5.2).

    Args:
        available: rows of each part, after its max_rows.
        weights: of all parts, or of none.
        rows: of the mixture; None takes as many as there are.

    Raises:
        PrunegridError: a part has fewer rows than its share.
    """
    weighted = all(weight is not None for weight in weights.values())
    total = math.fsum(weights.values()) if weighted else sum(available.values())
    share = {n: (weights[n] if weighted else available[n]) / total for n in available}
    if rows is None:
        rows = min(math.floor(available[n] / share[n] + 1e-9) for n in available if share[n])
    taken = {name: math.floor(rows * share[name] + 1e-9) for name in available}
    by_rest = sorted(available, key=lambda n: taken[n] - rows * share[n])
    for name in by_rest[: rows - sum(taken.values())]:
        taken[name] += 1
    short = [f"{n} {available[n]} of {taken[n]}" for n in available if taken[n] > available[n]]
    if short:
        raise PrunegridError(
            f"parts have fewer rows than their share of {rows}: {', '.join(short)}",
            where=where,
            remedy="lower the mixture's rows or the part's weight, or raise its max_rows",
        )
    return taken
