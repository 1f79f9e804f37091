"""How many experts a block loses: a share of them, rounded down."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.models.prunable import Extent
from prunegrid.pruning.patterns import Unstructured
from prunegrid.pruning.structured.unit_groups import Experts


def experts_that_go(group: Experts, record: Mapping[str, Any], sparsity: float, where: str) -> int:
    """Return how many experts each block loses, ⌊sparsity · experts of the dense model⌋ in all.

    Args:
        group: the experts of one block; the others have as many.
        record: the WEIGHTS RECORD of the model, which may have lost some already.

    Raises:
        PrunegridError: none would go, too few would stay, or groups of the router would differ.
    """
    before = Extent.of(record).experts_before or group.units
    count = Unstructured(sparsity).zeros_of(before) - (before - group.units)
    said = f"⌊{sparsity} · {before}⌋ = {count + before - group.units} experts a block are to go"
    if count <= 0:
        gone = f", and {before - group.units} are gone already" if before > group.units else ""
        raise PrunegridError(
            said + gone,
            where=where,
            expected=f"one or more: sparsity ≥ {_up((before - group.units + 1) / before)}",
            remedy="raise `sparsity`",
        )
    if count % group.parts:
        raise PrunegridError(
            f"{said}, and its router chooses among {group.parts} groups of experts",
            where=where,
            expected=f"as many of each group: a sparsity of a multiple of {group.parts}/{before}",
            remedy="set such a `sparsity`",
        )
    usable = (group.units - count) // group.parts * group.usable
    if usable < (group.top_k or 1):
        most = group.units - -(-(group.top_k or 1) // group.usable) * group.parts
        raise PrunegridError(
            f"{said}, and {usable} would be left for a token, which is given {group.top_k or 1}",
            where=where,
            expected=f"sparsity ≤ {_up((before - group.units + most) / before)}",
            remedy="lower `sparsity`",
        )
    return count


def _up(share: float) -> float:
    """Return a share with four digits, not less than it is."""
    return math.ceil(share * 10_000 - 1e-6) / 10_000
