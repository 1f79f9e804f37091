"""The config of a model without some of its units, found by trying and comparing.

No list of architectures says which settings hold a shape. Settings with the right value are
changed, the model of the changed config is built without weights, and it is compared with what
stays: names and shapes of all tensors, and what each block that stays is made of (classes, windows,
flags). What no change brings about is refused with the first difference.

If blocks go, every list with an entry a block loses theirs. If that does not do, more is tried,
one setting at a time, and what lessens the differences is taken: lists of the places of blocks,
how many of the first or of the last blocks are of a kind, patterns that repeat.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import find_blocks
from prunegrid.pruning.offload import empty_model
from prunegrid.pruning.structured import shapes
from prunegrid.pruning.structured.config_settings import (
    MLP_WIDTH,
    Path,
    path_of,
    settings_of,
    with_changes,
)
from prunegrid.pruning.structured.units import Units

_PLAIN = (bool, int, float, str, type(None))


class Faults(NamedTuple):
    """How many things of a changed config's model are not as they should be, and the first."""

    number: float
    first: str


def smaller_config(units: Units, kept: Mapping) -> Any:
    """Return the config of the model in which only some units are left.

    Args:
        kept: (kind, block) → int64 indices of the units that stay.

    Raises:
        PrunegridError: no config of this architecture says what stays.
    """
    best, faults, full = {}, Faults(math.inf, ""), _facts_of_blocks(units)
    for changes in _first_changes(units, kept):
        found = _faults(units, kept, full, changes)
        if not best or found.number < faults.number:
            best, faults = changes, found
        if not faults.number:
            break
    if not best:
        width = units.of("mlp")[0].units
        raise _refusal(units, f"none of its config's numbers is the MLP's width {width}")
    if faults.number and units.of("blocks"):
        best, faults = _improved(units, kept, full, best, faults)
    if faults.number:
        alone = units.of("mlp") and not units.of("heads")
        word = "no number of its config sets the MLP's width and nothing else: " if alone else ""
        raise _refusal(units, word + faults.first)
    return with_changes(units.model.config, best)


def _refusal(units: Units, what: str) -> PrunegridError:
    others = [kind for kind in ("mlp", "heads", "blocks") if not units.of(kind)]
    return PrunegridError(
        what,
        where=type(units.model).__name__,
        expected="a config that says what stays"
        + (": fewer heads need a head_dim" if units.of("heads") else ""),
        remedy=f"use {' or '.join(f'`units: [{kind}]`' for kind in others)}",
    )


def _first_changes(units: Units, kept: Mapping) -> Iterator[dict[Path, Any]]:
    """Yield path → value of the settings that should change, the likeliest first."""
    config: Any = units.model.config
    settings = settings_of(config)
    if units.of("blocks"):
        places, blocks = shapes.places_that_stay(units, kept), len(units.blocks.names)
        changes, usual = _cut(settings, blocks, places), path_of(config, "num_hidden_layers")
        for path in _with_value(settings, blocks, (usual[-1],)):
            yield changes | {path: len(places)}
        yield changes  # the number follows from a list
        return
    for group in units.of("experts")[:1]:  # all have as many
        for path in _with_value(settings, group.units, ()):
            yield {path: _like(settings[path], len(kept["experts", group.block]))}
    if units.of("experts"):
        return
    for changes in _fewer_heads(units, kept, settings) if units.of("heads") else [{}]:
        if not units.of("mlp"):
            yield changes
            continue
        group = units.of("mlp")[0]
        stay = len(kept["mlp", group.block])
        for path in _with_value(settings, group.units, MLP_WIDTH):
            yield changes | {path: _like(settings[path], stay)}


def _fewer_heads(
    units: Units, kept: Mapping, settings: Mapping[Path, Any]
) -> Iterator[dict[Path, Any]]:
    """Yield path → value of what says the number of heads; then with lists of it a block, too."""
    group, config = units.of("heads")[0], units.model.config
    number, shared = (path_of(config, f"num_{kind}_heads") for kind in ("attention", "key_value"))
    stay, per_group = len(kept["heads", group.block]), settings[number] // group.units
    changes: dict[Path, Any] = {number: stay * per_group}
    if settings.get(path_of(config, "head_dim")) is None:
        width = max(columns.shape[1] for columns in group.columns.values())
        changes[path_of(config, "head_dim")] = width // per_group
    if settings.get(shared) is not None:
        changes[shared] = stay
    yield changes
    lists = [p for p in _with_value(settings, settings[number], ()) if type(settings[p]) is list]
    if lists:
        yield changes | {path: _like(settings[path], stay * per_group) for path in lists}


def _like(value: Any, number: int) -> Any:
    """Return a number in the form of a value: a list of it, or the number alone."""
    return [number] * len(value) if isinstance(value, list) else number


def _with_value(settings: Mapping[Path, Any], number: int, usual: Sequence[str]) -> list[Path]:
    """Return the paths of settings with a value (a list of it, or None under a usual name)."""

    def fits(path: Path) -> bool:
        value = settings[path]
        if value is None:
            return path[-1] in usual
        same = value if isinstance(value, list) and value else [value]
        return all(type(one) is int and one == number for one in same)

    ranks = {name: rank for rank, name in enumerate(usual)}
    return sorted(filter(fits, settings), key=lambda path: ranks.get(path[-1], len(ranks)))


def _cut(settings: Mapping[Path, Any], blocks: int, places: Sequence[int]) -> dict[Path, Any]:
    """Return the lists with an entry a block, and tables by a block's place, as they will be."""
    changes: dict[Path, Any] = {}
    for path, value in settings.items():
        if path[-1].endswith(("token_id", "token_ids")):
            continue
        if isinstance(value, list) and len(value) == blocks:
            changes[path] = [value[place] for place in places]
        elif _is_table(value, blocks):
            by_place = {int(key): entry for key, entry in value.items()}
            changes[path] = {
                str(new): by_place[place] for new, place in enumerate(places) if place in by_place
            }
    return changes


def _is_table(value: Any, blocks: int) -> bool:
    """Return whether a value maps places of blocks to settings."""
    return (
        isinstance(value, dict)
        and bool(value)
        and all(str(key).isdigit() and int(key) < blocks for key in value)
        and all(isinstance(entry, dict) for entry in value.values())
    )


def _improved(
    units: Units, kept: Mapping, full: list[dict], changes: dict[Path, Any], faults: Faults
) -> tuple[dict[Path, Any], Faults]:
    """Return changes with more settings changed, as long as faults get fewer, and what is left."""
    blocks, places = len(units.blocks.names), shapes.places_that_stay(units, kept)
    settings = settings_of(units.model.config)
    while faults.number:
        best, fewest = changes, faults
        for path, value in settings.items():
            for other in _other_values(value, blocks, places):
                if fewest.number and other != changes.get(path, value):
                    found = _faults(units, kept, full, changes | {path: other})
                    if found.number < fewest.number:
                        best, fewest = changes | {path: other}, found
        if best is changes:
            break
        changes, faults = best, fewest
    return changes, faults


def _other_values(value: Any, blocks: int, places: Sequence[int]) -> Iterator[Any]:
    """Yield what a setting may become if only some of the blocks stay."""
    if type(value) is int and 0 < value <= blocks:
        yield sum(place < value for place in places)
        yield sum(place >= blocks - value for place in places)
    if isinstance(value, str) and len(value) == blocks:
        yield "".join(value[place] for place in places)
    if not isinstance(value, list) or not value:
        return
    if len(value) == blocks:
        yield value
    if all(type(one) is int and 0 <= one < blocks for one in value):
        yield [new for new, place in enumerate(places) if place in value]
    if len(value) < blocks:
        yield [value[place % len(value)] for place in places]
    if all(isinstance(one, list) and len(one) == 2 and type(one[1]) is int for one in value):
        counted = [kind for kinds, times in value for _ in range(times) for kind in kinds]
        if len(counted) == blocks:
            yield [[[counted[place]], 1] for place in places]


def _faults(units: Units, kept: Mapping, full: list[dict], changes: Mapping[Path, Any]) -> Faults:
    """Return how the model of a changed config differs from what stays.

    Args:
        full: what the blocks of the full model are made of.
    """
    try:
        config = with_changes(units.model.config, changes)
    except Exception as error:  # each architecture checks its config in its own way
        said = ", ".join(f"{'.'.join(path)}: {value}" for path, value in changes.items())
        return Faults(math.inf, f"its config cannot say {said}: {_last_line(error)}")
    try:
        built = empty_model(config)
    except Exception as error:
        return Faults(math.inf, f"it cannot be built without these units: {_last_line(error)}")
    made = {name: list(tensor.shape) for name, tensor in built.state_dict().items()}
    state = {name: tensor.to("meta") for name, tensor in units.model.state_dict().items()}
    ghosts = shapes.smaller_tensors(state, units, kept, made)
    left = {name: list(tensor.shape) for name, tensor in ghosts.items()}
    differences = [
        f"{name} would be {left.get(name)}, and its config makes it {made.get(name)}"
        for name in sorted(left.keys() | made.keys())
        if left.get(name) != made.get(name)
    ]
    if not differences and units.of("blocks"):
        differences = _unlike_blocks(units, kept, full, built)
    return Faults(len(differences), differences[0] if differences else "")


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()


def _facts_of_blocks(units: Units) -> list[dict[str, Any]]:
    """Return what the full model's blocks are made of, as its config builds them.

    A model that has run may differ: BigBird takes another attention for short texts.
    """
    if not units.of("blocks"):
        return []
    model = empty_model(with_changes(units.model.config, {}))
    return [_facts(block) for block in find_blocks(model).modules]


def _unlike_blocks(units: Units, kept: Mapping, full: list[dict], built: nn.Module) -> list[str]:
    """Return how blocks that stay are made otherwise in a model than in the full one."""
    places = shapes.places_that_stay(units, kept)
    moved, blocks = {place: new for new, place in enumerate(places)}, len(units.blocks.names)
    differences = []
    for place, module in zip(places, find_blocks(built).modules, strict=True):
        facts, new_facts = full[place], _facts(module)
        for name in sorted(facts.keys() | new_facts.keys()):
            old, new = facts.get(name), new_facts.get(name)
            if old != new and not _follows(old, new, place, moved, blocks):
                differences.append(
                    f"{units.blocks.names[place]} has {name} {old}, and its config makes it {new}"
                )
    return differences


def _facts(block: nn.Module) -> dict[str, Any]:
    """Return what a block is made of: classes of its modules, and their plain attributes."""
    facts: dict[str, Any] = {}
    for name, module in block.named_modules():
        facts[f"{name or 'itself'} of class"] = type(module).__name__
        for key, value in vars(module).items():
            items = value if isinstance(value, (list, tuple)) else [value]
            plain = all(isinstance(item, _PLAIN) for item in items)
            if plain and not key.startswith("_") and key != "training":
                facts[f"{name}.{key}".lstrip(".")] = value
    return facts


def _follows(old: Any, new: Any, place: int, moved: Mapping[int, int], blocks: int) -> bool:
    """Return whether a value changes only as blocks move up.

    So do the place of a block, how many there are, and a list with an entry a block.
    """
    if type(old) is int and type(new) is int:
        own = old - place == new - moved[place]
        return own or moved.get(old) == new or (old, new) == (blocks, len(moved))
    lists = isinstance(old, (list, tuple)) and isinstance(new, (list, tuple))
    return lists and len(old) == blocks and [old[place] for place in moved] == list(new)
