"""Numbers of units that go, before it is known which; and which blocks, by what a config can say.

Every layer loses the same number of units, so that the share of prunable weights that is to go
comes out as near as whole units can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.models.prunable import Extent
from prunegrid.pruning.structured import shapes
from prunegrid.pruning.structured.config_search import smaller_config
from prunegrid.pruning.structured.expert_plan import experts_that_go
from prunegrid.pruning.structured.unit_groups import Kind
from prunegrid.pruning.structured.units import Units

# The widest `multiple` that is taken where a profile gives none.
USUAL_MULTIPLE = 64


def removed_from(record: Mapping[str, Any], experts: int | None = None) -> Extent:
    """Return the extent of weights made of those with this record by removing some.

    Args:
        experts: how many a block had before, where some of them go.

    Raises:
        PrunegridError: linears of it were left dense, which are no part of its prunable weights.
    """
    extent = Extent.of(record)
    if extent.exclude or extent.uncalled:
        raise PrunegridError(
            f"pruning left {', '.join([*extent.exclude, *extent.uncalled][:3])} dense, and what "
            "units take is a share of all linears",
            expected="weights of which all linears are prunable",
            remedy="remove units first, and prune after that",
        )
    extent = replace(extent, experts_before=extent.experts_before or experts)
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
        settings: {sparsity, multiple}; a multiple of None is chosen here.

    Raises:
        PrunegridError: the model cannot lose so many, or so few.
    """
    if experts := units.of("experts"):
        return {"experts": experts_that_go(experts[0], record, settings["sparsity"], where)}
    kinds = units.kinds()
    heads = replace(units, groups=units.of("heads"))

    def refusal(count: int) -> PrunegridError | None:
        removed = shapes.first_units(heads, {"heads": count})
        try:
            smaller_config(heads, shapes.kept_of(heads, removed))
        except PrunegridError as error:
            return error
        return None

    goal, prunable = _goal(settings, record, where), record["prunable_parameters"]
    return removed_units(kinds, goal, prunable, refusal, settings["multiple"], where)


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
    refusal: Callable[[int], PrunegridError | None],
    multiple: int | None,
    where: str,
) -> dict[str, int]:
    """Return kind → units that every layer loses.

    Heads and neurons together lose the same share each; heads come in few large units, so neurons
    make up for their rounding.

    Args:
        kinds: "mlp" and "heads", one of them, or "blocks".
        goal, prunable: prunable weights that the model is to lose, and has.
        refusal: returns why the config cannot say so many heads fewer, or None.
        multiple: kept neurons are a multiple of it; None: see `usual_multiple`.

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
        heads, alone = kinds["heads"], len(kinds) == 1
        share = goal if alone else goal * heads.lost(heads.units) / prunable
        counts["heads"] = _heads_that_go(heads, heads.nearest(share), refusal, alone)
        left -= heads.lost(counts["heads"])
    if "mlp" in kinds:
        counts["mlp"] = _neurons_that_go(kinds["mlp"], left, multiple, where)
    if not any(counts.values()):
        raise _nothing_goes(kinds, goal, prunable, where)
    return counts


def _neurons_that_go(mlp: Kind, goal: float, multiple: int | None, where: str) -> int:
    usual = usual_multiple(mlp, goal)
    gone = _rounded(mlp, goal, multiple or usual)
    if not gone and mlp.nearest(goal):
        raise PrunegridError(
            f"with `multiple` {multiple or usual} all {mlp.units} neurons of a layer would stay",
            where=where,
            expected=f"a `multiple` that lets some of them go, as {usual}",
            remedy="lower `multiple`, leave it out, or raise `sparsity`",
        )
    return gone


def _nothing_goes(
    kinds: Mapping[str, Kind], goal: int, prunable: int, where: str
) -> PrunegridError:
    """Return the refusal of a sparsity that takes no unit."""
    if all(kind.units == 1 for kind in kinds.values()):
        names = {"mlp": "neuron a layer", "heads": "key-value head a layer", "blocks": "block"}
        listed = " and one ".join(names[kind] for kind in sorted(kinds))
        return PrunegridError(
            f"there is one {listed}, and one always stays",
            where=where,
            expected="units of which some can go",
            remedy="take other `units`",
        )
    least = min(kind.lost(1) for kind in kinds.values()) / prunable
    return PrunegridError(
        f"{goal} weights are to go, less than half of what one unit a layer has",
        where=where,
        expected=f"about {least:.4f} or more of the model's prunable weights",
        remedy="raise `sparsity`, or take smaller units (mlp)",
    )


def _heads_that_go(
    heads: Kind, wanted: int, refusal: Callable[[int], PrunegridError | None], alone: bool
) -> int:
    """Return the count nearest to the wanted one that the config can say; of two the smaller.

    Raises:
        PrunegridError: the config can say no fewer heads, or none would go though some should.
    """
    if not wanted:
        return 0
    why, none_goes = None, False
    for count in sorted(range(heads.units), key=lambda count: (abs(count - wanted), count)):
        if count == 0:
            none_goes = True  # the nearest, if any other can be said at all
            continue
        fault = refusal(count)
        if fault is None:
            if none_goes and alone:
                break
            return 0 if none_goes else count
        why = why or fault  # the first is of the wanted count
    raise why


def usual_multiple(mlp: Kind, goal: float) -> int:
    """Return the `multiple` that is taken where none is given.

    It is the largest power of two up to 64 that divides the width and lets neurons go.

    Args:
        goal: prunable weights that neurons are to lose.
    """
    multiple = USUAL_MULTIPLE
    while multiple > 1 and (mlp.units % multiple or not _rounded(mlp, goal, multiple)):
        multiple //= 2
    return multiple


def _rounded(mlp: Kind, goal: float, multiple: int) -> int:
    """Return how many neurons go so that a multiple of `multiple` stays."""
    if multiple == 1:
        return mlp.nearest(goal)
    kept = mlp.units - goal / (mlp.layers * mlp.weights)
    kept = max(math.floor(kept / multiple + 0.5), 1) * multiple
    return max(mlp.units - kept, 0)


def choose_blocks(
    units: Units, order: Sequence[int], count: int, removable: Callable[[Mapping], None]
) -> tuple[dict[tuple[str, str], Tensor], dict[str, str]]:
    """Return the blocks that go, and block → why it stays, of those that would have gone before.

    The first `count` in the order go, if the model can do without them; else blocks are taken one
    by one, and one that the model cannot do without, beside those that go already, stays.

    Args:
        order: places of blocks, the first to go first.
        removable: raises PrunegridError where a choice cannot go, (kind, block) → units.

    Raises:
        PrunegridError: the model cannot lose so many.
    """

    def reason(places: Sequence[int]) -> str:
        try:
            removable(shapes.without_blocks(units, places))
        except PrunegridError as error:
            return error.what
        return ""

    going, names, stay = list(order[:count]), units.blocks.names, {}
    if not reason(going):
        return shapes.without_blocks(units, going), {}
    going = []
    for place in order:
        if len(going) == count:
            break
        why = reason([*going, place])
        if why:
            stay[names[place]] = why
        else:
            going.append(place)
    if len(going) < count:
        listed = "; ".join(f"{name} ({why})" for name, why in list(stay.items())[:3])
        raise PrunegridError(
            f"{len(going)} of {len(names)} blocks can go, and {count} are to: it cannot do "
            f"without {listed}",
            where=type(units.model).__name__,
            expected="blocks that its config can leave out",
            remedy="lower `sparsity`, or take other `units`: these blocks of this architecture "
            "cannot go",
        )
    return shapes.without_blocks(units, going), stay
