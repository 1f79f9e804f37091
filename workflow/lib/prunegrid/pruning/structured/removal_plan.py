"""Numbers of units that go, before it is known which; a config must be able to say the rest.

Every layer loses the same number of units, so that the share of prunable weights that is to go
comes out as near as whole units can.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.models.prunable import Extent
from prunegrid.pruning.structured import shapes
from prunegrid.pruning.structured.units import Kind, Units


def removed_from(record: Mapping[str, Any]) -> Extent:
    """Return the extent of weights made of those with this record by removing some."""
    extent = Extent.of(record)
    if extent.prunable_before is not None:
        return extent
    return replace(
        extent,
        prunable_before=record["prunable_parameters"],
        parameters_before=record["parameters"],
    )


def counts_for(
    units: Units, record: Mapping[str, Any], settings: Mapping, where: str
) -> dict[str, int]:
    """Return kind → units that every layer loses (of blocks: the model).

    Args:
        record: the WEIGHTS RECORD of the model.
        settings: {sparsity, multiple}.

    Raises:
        PrunegridError: the architecture cannot lose so many, or no config can say what stays.
    """
    kinds, prunable = units.kinds(), record["prunable_parameters"]
    heads = replace(units, groups=units.of("heads"))

    def fewer_heads(count: int) -> bool:
        kept = shapes.first_units(heads, {"heads": kinds["heads"].units - count})
        with contextlib.suppress(PrunegridError):
            shapes.smaller_config(heads, kept)
            return True
        return False

    goal = _goal(settings, record, where)
    counts = removed_units(kinds, goal, prunable, fewer_heads, settings["multiple"], where)
    stay = {kind: kinds[kind].units - count for kind, count in counts.items()}
    shapes.require_expressed(units, shapes.first_units(units, stay))
    return counts


def _goal(settings: Mapping, record: Mapping[str, Any], where: str) -> int:
    """Return how many prunable weights the model is to lose."""
    dense = removed_from(record).prunable_before
    lost = dense - record["prunable_parameters"]
    goal = round(settings["sparsity"] * dense) - lost
    if goal <= 0:
        raise PrunegridError(
            f"sparsity {settings['sparsity']} is asked for, and {lost / dense:.4f} of the weights "
            "are gone already",
            where=where,
            expected="more than that: it is the share of the dense model's prunable weights",
        )
    return goal


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
        kinds: "mlp" and "heads", one of them, or "blocks".
        goal, prunable: prunable weights that the model is to lose, and has.
        allowed: returns whether the config can say so many heads fewer.
        multiple: kept neurons are a multiple of it.

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
    counts, left = {}, float(goal)
    if "blocks" in kinds:
        counts["blocks"] = kinds["blocks"].nearest(goal)
    if "heads" in kinds:
        heads = kinds["heads"]
        share = goal if len(kinds) == 1 else goal * heads.lost(heads.units) / prunable
        counts["heads"] = _allowed(heads, heads.nearest(share), allowed)
        left -= heads.lost(counts["heads"])
    if "mlp" in kinds:
        counts["mlp"] = _rounded(kinds["mlp"], left, multiple)
    if not any(counts.values()):
        least = min(kind.lost(1) for kind in kinds.values()) / prunable
        raise PrunegridError(
            f"{goal} weights are to go, less than half of what one unit a layer has",
            where=where,
            expected=f"about {least:.4f} or more of the model's prunable weights",
            remedy="raise `sparsity`, or take smaller units (mlp)",
        )
    return counts


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
