"""How many units every layer loses for a sparsity: the share of prunable weights that is to go."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from prunegrid.common.errors import PrunegridError


@dataclass(frozen=True)
class Kind:
    """What there is of one kind of unit.

    Attributes:
        units: in a layer (of blocks: in the model).
        weights: prunable weights of one unit.
        layers: that lose the same number of them (of blocks: 1).
    """

    units: int
    weights: int
    layers: int

    def nearest(self, goal: float) -> int:
        """Return how many a layer loses so that the model loses as near `goal` as units can."""
        wanted = goal / (self.layers * self.weights)
        # One always stays: a layer without any has no shape that a config could say.
        return min(max(math.floor(wanted + 0.5), 0), self.units - 1)

    def lost(self, count: int) -> int:
        """Return how many weights the model loses by `count` units a layer."""
        return count * self.weights * self.layers


def removed_units(
    kinds: Mapping[str, Kind],
    goal: int,
    prunable: int,
    allowed: Callable[[int], bool],
    multiple: int,
    where: str,
) -> dict[str, int]:
    """Return kind → units that every layer loses.

    Heads and neurons together lose the same share each; heads come in few large units, so neurons
    make up for their rounding.

    Args:
        kinds: of "mlp", "heads", or "blocks" alone.
        goal: prunable weights that the model is to lose.
        prunable: prunable weights that it has.
        allowed: whether the config can say so many heads fewer.
        multiple: kept neurons are a multiple of it.
        where: for errors.

    Raises:
        PrunegridError: the units do not have so many weights, or not one would go.
    """
    most = sum(kind.lost(kind.units - 1) for kind in kinds.values())
    largest = max(kind.lost(1) for kind in kinds.values())
    if goal > most + largest / 2:
        raise PrunegridError(
            f"{goal} weights are to go, and units {sorted(kinds)} can give {most}",
            where=where,
            expected=f"at most {most / prunable:.4f} of the prunable weights that the model has",
            remedy="lower `sparsity`, or take other `units`",
        )
    found: dict[str, int] = {}
    left = float(goal)
    if "blocks" in kinds:
        found["blocks"] = kinds["blocks"].nearest(goal)
    if "heads" in kinds:
        heads = kinds["heads"]
        share = goal if len(kinds) == 1 else goal * heads.lost(heads.units) / prunable
        found["heads"] = _allowed(heads, heads.nearest(share), allowed)
        left -= heads.lost(found["heads"])
    if "mlp" in kinds:
        found["mlp"] = _rounded(kinds["mlp"], left, multiple)
    if not any(found.values()):
        least = min(kind.lost(1) for kind in kinds.values()) / prunable
        raise PrunegridError(
            f"{goal} weights are to go, less than half of what one unit a layer has",
            where=where,
            expected=f"about {least:.4f} or more of the model's prunable weights",
            remedy="raise `sparsity`, or take smaller units (mlp)",
        )
    return found


def _allowed(heads: Kind, wanted: int, allowed: Callable[[int], bool]) -> int:
    """Return the count nearest to the wanted one that the config can say; of two the smaller."""
    counts = sorted(range(heads.units), key=lambda count: (abs(count - wanted), count))
    return next(count for count in counts if count == 0 or allowed(count))


def _rounded(mlp: Kind, goal: float, multiple: int) -> int:
    """Return how many neurons go so that a multiple of `multiple` stays."""
    if multiple == 1:
        return mlp.nearest(goal)
    kept = mlp.units - goal / (mlp.layers * mlp.weights)
    kept = max(math.floor(kept / multiple + 0.5), 1) * multiple
    return max(mlp.units - kept, 0)
