"""The matrices of a block that no linear holds, and its routers: by structure, never by name.

A block's matrices are the weights of its linears and every other parameter that `is_matrix` takes:
fused experts, block-diagonal gates, convolutions over channels. Tables (nn.Embedding) are not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from torch import Tensor, nn

# Two-dimensional parameters with a side up to this are arrays of numbers by channel: a depthwise
# kernel [C, 1, 4], Mamba's A [C, 16]. Linears count whatever their sides are.
ARRAY = 16


def is_matrix(shape: Iterable[int]) -> bool:
    """Return whether a parameter that no linear holds counts as a matrix, or a stack of them."""
    sides = [side for side in shape if side > 1]
    return len(sides) > 2 or (len(sides) == 2 and min(sides) > ARRAY)


def routers(block: nn.Module) -> dict[str, Tensor]:
    """Return name → weight [experts, d] of the matrices that choose among a block's experts.

    Experts are modules of one class in a list, or a stack [experts, …, …] in one parameter. A
    router stands beside them and has one row for each; one with a single row is the gate of an
    expert that all tokens share.
    """
    found = {}
    for name, module in block.named_modules():
        count = _experts(module) if name else 0
        if not count:
            continue
        beside = name.rpartition(".")[0]
        for inner, weight in block.get_submodule(beside).named_parameters(prefix=beside):
            # Beside a router may be a bias by expert, [1, experts].
            chooses = weight.dim() == 2 and weight.shape[0] in (1, count)
            if chooses and weight.shape[1] > count and not inner.startswith(f"{name}."):
                found[inner] = weight
    return found


def _experts(module: nn.Module) -> int:
    """Return how many experts a module holds, 0 if it holds none."""
    children = list(module.children())
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)) and len(children) > 1:
        alike = len({type(child) for child in children}) == 1
        return len(children) * (alike and any(p.dim() > 1 for p in children[0].parameters()))
    for weight in module.parameters(recurse=False):
        # In a stack of matrices the experts are fewer than what goes in and comes out of each.
        if weight.dim() == 3 and 1 < weight.shape[0] <= min(weight.shape[1:]):
            return weight.shape[0]
    return 0


def other_matrices(block: nn.Module, known: Collection[int]) -> dict[str, Tensor]:
    """Return name → parameter of a block's matrices whose ids are not `known`."""
    tables = {id(m.weight) for m in block.modules() if isinstance(m, nn.Embedding)}
    return {
        name: weight
        for name, weight in block.named_parameters()
        if is_matrix(weight.shape) and id(weight) not in tables and id(weight) not in known
    }
