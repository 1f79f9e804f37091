"""Experts of a mixture, found by what a config with fewer experts makes smaller.

The experts lie in one module of a block, as tensors [experts, …, …] (`models.experts`). Every
tensor of the model that a config with fewer experts makes shorter has an entry an expert: theirs,
the router's rows, and biases that only choose (`e_score_correction_bias`). Experts that all tokens
share keep their shapes, and so stay.

How many experts a token is given is seen in a pass. Routing by groups (DeepSeek's `n_group`) is
kept where each group loses as many experts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks
from prunegrid.models.experts import ExpertLinear
from prunegrid.models.forward import device_of, run_window
from prunegrid.pruning.offload import empty_model
from prunegrid.pruning.structured.config_settings import setting, settings_of, with_changes
from prunegrid.pruning.structured.expert_routing import routing_of
from prunegrid.pruning.structured.unit_groups import Experts

_REMEDY = "this architecture is not supported for `units: [experts]`; [blocks] or [heads] may be"


def experts_by_config(model: nn.Module, blocks: Blocks, window: Tensor) -> list[Experts]:
    """Return the experts of each block that has some.

    Args:
        window: int64 [1, length], some tokens to run the model on.

    Raises:
        PrunegridError: no block has experts, or they are not of the form described above.
    """
    where, found = type(model).__name__, _holders(blocks)
    if not found:
        raise _none_found(where, blocks)
    for block, holders in found.items():
        if len(holders) > 1:
            raise PrunegridError(
                f"{len(holders)} of its modules hold experts, such as {min(holders)}",
                where=f"{where}, {block}",
                expected="one module a block, with one router",
                remedy=_REMEDY,
            )
    members = {block: _members(*holders.values()) for block, holders in found.items()}
    numbers = {len(experts) for experts in members.values()}
    if len(numbers) > 1:
        raise PrunegridError(
            f"blocks have {' and '.join(map(str, sorted(numbers)))} experts",
            where=where,
            expected="as many in each block that has some, as its config says one number",
            remedy=_REMEDY,
        )
    (units,) = numbers
    parts = _number(model.config, "n_group")
    slices = _slices(model, found, units, parts)
    names = {block: next(iter(holders)) for block, holders in found.items()}
    top_k = _experts_a_token(model, names, window)
    return [
        Experts(
            *("experts", block, units, {}, {}),
            slices={name: dim for name, dim in slices.items() if name.startswith(f"{block}.")},
            parts=parts,
            holder=names[block],
            members=experts,
            usable=min(_number(model.config, "topk_group"), parts),
            top_k=top_k[block],
        )
        for block, experts in members.items()
    ]


def _holders(blocks: Blocks) -> dict[str, dict[str, dict[str, ExpertLinear]]]:
    """Return block → name of a module that holds experts → its linears by name."""
    found: dict[str, dict[str, dict[str, ExpertLinear]]] = {}
    for block, linears in blocks.linears.items():
        for name, linear in linears.items():
            if isinstance(linear, ExpertLinear):
                holder = name.removesuffix(f".{linear.leaf}.{linear.index}")
                found.setdefault(block, {}).setdefault(holder, {})[name] = linear
    return found


def _members(linears: Mapping[str, ExpertLinear]) -> list[list[str]]:
    """Return the names of the linears of each expert."""
    units = 1 + max(linear.index for linear in linears.values())
    return [[n for n, m in linears.items() if m.index == unit] for unit in range(units)]


def _none_found(where: str, blocks: Blocks) -> PrunegridError:
    """Return the refusal of a model without experts that can go."""
    if not blocks.routers:
        return PrunegridError(
            "no block has experts: it is no mixture of experts",
            where=where,
            expected="a model whose blocks have a router and experts",
            remedy="use `units: [mlp]`, `[heads]` or `[blocks]`",
        )
    return PrunegridError(
        f"its experts lie in no tensor of all of a block, though {min(blocks.routers)} is a router",
        where=where,
        expected="tensors [experts, …, …] in one module a block",
        remedy=_REMEDY,
    )


def _number(config: Any, name: str) -> int:
    """Return a positive number of a config; 1 where it has none of the name."""
    value = setting(config, name)
    return value if type(value) is int and value > 0 else 1


def _slices(
    model: nn.Module, found: Mapping[str, Mapping], units: int, parts: int
) -> dict[str, int]:
    """Return tensor of the model's state → its dimension with an entry an expert.

    Raises:
        PrunegridError: no setting of the config makes experts fewer, and nothing else smaller.
    """
    less, reason = units - parts, "no number of its config makes its experts fewer"
    own = {
        f"{holder}.{linear.leaf}"
        for holders in found.values()
        for holder, linears in holders.items()
        for linear in linears.values()
    }
    full = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    for path, value in settings_of(model.config).items() if less > 0 else ():
        if type(value) is not int or value != units:
            continue
        try:
            small = empty_model(with_changes(model.config, {path: less})).state_dict()
        except Exception:  # each architecture checks its config in its own way
            continue
        slices, odd = {}, []
        for name, shape in full.items():
            new = list(small[name].shape) if name in small else []
            dims = [dim for dim, size in enumerate(shape) if new[dim : dim + 1] != [size]]
            if len(new) == len(shape) and len(dims) == 1 and shape[dims[0]] == units:
                slices[name] = dims[0]
            elif dims:
                odd.append(f"with {path[-1]} {less} {name} would be {new or 'gone'}, not {shape}")
        odd += [f"{name} would be new" for name in small.keys() - full.keys()]
        if own <= slices.keys() and not odd:
            return slices
        reason = odd[0] if own <= slices.keys() else reason
    if less <= 0:
        reason = f"it has {units} experts in {parts} groups, of which none can go"
    raise PrunegridError(
        reason,
        where=type(model).__name__,
        expected="a config whose number of experts sets the sizes of experts and routers alone",
        remedy=_REMEDY,
    )


@torch.no_grad()
def _experts_a_token(
    model: nn.Module, holders: Mapping[str, str], window: Tensor
) -> dict[str, int | None]:
    """Return block → how many experts a token is given; None where its holder is not told."""
    seen: dict[str, int | None] = dict.fromkeys(holders)

    def look(block: str) -> Any:
        def note(_module: nn.Module, args: tuple, kwargs: dict) -> None:
            routing = routing_of(args, kwargs)
            seen[block] = None if routing is None else routing.index.shape[1]

        return note

    with contextlib.ExitStack() as hooks:
        for block, name in holders.items():
            holder = model.get_submodule(name)
            hooks.callback(holder.register_forward_pre_hook(look(block), with_kwargs=True).remove)
        run_window(model, window.to(device_of(model)))
    return seen
