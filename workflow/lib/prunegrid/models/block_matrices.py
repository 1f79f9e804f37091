"""The matrices of a block that no linear holds, and its routers: by structure and by class.

A block's matrices are the weights of its linears and every other parameter that `is_matrix` takes:
block-diagonal gates, convolutions over channels, experts in a form that is not known. Tables
(nn.Embedding) are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import Tensor, nn

from prunegrid.models.experts import fused_tensors, holds_experts

# Two-dimensional parameters with a side up to this are arrays of numbers by channel: a depthwise
# kernel [C, 1, 4], Mamba's A [C, 16]. Linears count whatever their sides are.
ARRAY = 16


def is_matrix(shape: Iterable[int]) -> bool:
    """Return whether a parameter that no linear holds counts as a matrix, or a stack of them."""
    sides = [side for side in shape if side > 1]
    return len(sides) > 2 or (len(sides) == 2 and min(sides) > ARRAY)


def routers(block: nn.Module) -> dict[str, Tensor]:
    """Return name → weight of the matrices that choose among a block's experts.

    A router is a module of a class `…Router…`. Or it lies beside experts, in the nearest module
    around them where a matrix has one row for each; all of its matrices count. Experts are modules
    of one class in a list, or a stack [experts, …, …] in one parameter. A single row beside them is
    the gate of an expert that all tokens share. An attention (a class `…Attention…`) holds no
    router of others.
    """
    named = {name: module for name, module in block.named_modules() if name}
    groups = {name: count for name, module in named.items() if (count := _experts(module))}
    attentions = _of_class(named, "attention")
    matrices = {name: weight for name, weight in block.named_parameters() if weight.dim() == 2}
    called = _of_class(named, "router")
    found = {name for name in matrices if _is_in(name, *called)}
    for group, count in groups.items():
        apart = [*groups, *(name for name in attentions if not _is_in(group, name))]
        for around in _parents(group):
            beside = {n for n in matrices if _is_in(n, around) and not _is_in(n, *apart)}
            first = {
                name
                for name in beside
                if matrices[name].shape[0] == count < matrices[name].shape[1]
                or _is_in(name, *called)
            }
            if first:
                single = {name for name in beside if matrices[name].shape[0] == 1}
                depth = len(around.split(".")) if around else 0
                parts = {".".join(name.split(".")[: depth + 1]) for name in first}
                found |= {name for name in beside if _is_in(name, *parts)} | single
                break
    return {name: weight for name, weight in matrices.items() if name in found}


def _of_class(named: Mapping[str, nn.Module], word: str) -> list[str]:
    """Return the names of the modules whose class has a word in its name."""
    return [name for name, module in named.items() if word in type(module).__name__.lower()]


def _is_in(name: str, *places: str) -> bool:
    """Return whether a name lies in one of some modules, or is one itself; "" holds all."""
    return any(not place or f"{name}.".startswith(f"{place}.") for place in places)


def _parents(name: str) -> list[str]:
    """Return the names of the modules around one, the nearest first, the whole block ("") last."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in reversed(range(len(parts)))]


def _experts(module: nn.Module) -> int:
    """Return how many experts a module holds, 0 if it holds none."""
    children = list(module.children())
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)) and len(children) > 1:
        alike = len({type(child) for child in children}) == 1
        return len(children) * (alike and any(p.dim() > 1 for p in children[0].parameters()))
    stacks = fused_tensors(module)
    if holds_experts(module):
        return len(next(iter(stacks.values())))
    # In a stack of matrices the experts are fewer than what goes in and comes out of each.
    counts = [len(w) for w in stacks.values() if 1 < len(w) <= min(w.shape[1:])]
    return counts[0] if counts else 0


def other_matrices(block: nn.Module, known: Collection[int]) -> dict[str, Tensor]:
    """Return name → parameter of a block's matrices whose ids are not `known`."""
    tables = {id(m.weight) for m in block.modules() if isinstance(m, nn.Embedding)}
    return {
        name: weight
        for name, weight in block.named_parameters()
        if is_matrix(weight.shape) and id(weight) not in tables and id(weight) not in known
    }
