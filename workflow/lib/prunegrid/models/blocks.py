"""A model's blocks and their linears, found by structure and never by model name.

Blocks are the children of a `ModuleList` that repeats one class (the classes that the model itself
lists in `_no_split_modules` settle doubts); an encoder-decoder has two such lists, and its blocks
are the encoder's, then the decoder's. Prunable are the linears inside blocks, those of
cross-attention and of fused experts too, each weight once; embeddings (T5's of relative positions
is inside a block), the head, norms, biases, routers and anything outside a block (OPT-350m's
projections) are not.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.models.block_lists import require_understood
from prunegrid.models.block_matrices import other_matrices, routers
from prunegrid.models.experts import ExpertLinear, experts_of, stored_name, weight_of

# The group of the linears outside the blocks that a profile includes.
OUTSIDE = "(outside the blocks)"


@dataclass(frozen=True)
class Blocks:
    """A model's blocks in the order in which they run, an encoder's before its decoder's.

    Attributes:
        names: module names.
        modules: the block modules.
        linears: block name → full linear name → module, or `ExpertLinear` of fused experts, of the
            prunable ones.
        outside: full linear name → module of the linears outside the blocks that were asked for.
        excluded: full name → weight of matrices that patterns leave dense.
        routers: full parameter name → weight of the matrices that choose among experts.
        others: full parameter name → matrices that no linear holds.
        twins: full name → (name of the linear with the very same weight, module), where blocks
            share weights.
    """

    names: list[str]
    modules: list[nn.Module]
    linears: dict[str, dict[str, nn.Module]]
    outside: dict[str, nn.Module] = field(default_factory=dict)
    excluded: dict[str, Tensor] = field(default_factory=dict)
    routers: dict[str, Tensor] = field(default_factory=dict)
    others: dict[str, Tensor] = field(default_factory=dict)
    twins: dict[str, tuple[str, nn.Module]] = field(default_factory=dict)

    def all_linears(self) -> dict[str, nn.Module]:
        """Return full name → module of the prunable linears of all blocks."""
        return {name: module for group in self.linears.values() for name, module in group.items()}

    def shared(self) -> list[str]:
        """Return the names of the linears whose weight another block holds."""
        holders = {n: block for block, linears in self.linears.items() for n in linears}
        return [t for t, (n, _) in self.twins.items() if not t.startswith(f"{holders[n]}.")]

    def groups(self) -> dict[str, dict[str, nn.Module]]:
        """Return the linears by block; those outside are last, under the name OUTSIDE."""
        return {**self.linears, OUTSIDE: self.outside} if self.outside else dict(self.linears)


def find_blocks(
    model: nn.Module, *, include: Iterable[str] = (), exclude: Iterable[str] = ()
) -> Blocks:
    """Return the blocks of a model and their linears.

    Args:
        model: as loaded by transformers.
        include: patterns (`*.project_in`) of linears to be pruned as well: those outside the
            blocks, and routers.
        exclude: patterns of linears, and of other matrices of blocks, to be left dense.

    Raises:
        PrunegridError: no list of blocks, more than the model's kind has (two for an
            encoder-decoder, else one), or a pattern that names nothing.
    """
    lists = _repeated_lists(model)
    hinted = set(getattr(model, "_no_split_modules", None) or ())
    chosen = [
        name for name, blocks in lists.items() if all(type(b).__name__ in hinted for b in blocks)
    ] or list(lists)
    require_understood(model, {name: lists[name] for name in chosen})
    named = {
        f"{parent}.{index}": module
        for parent in chosen
        for index, module in enumerate(lists[parent])
    }
    blocks = Blocks(list(named), list(named.values()), {})
    holders: dict[tuple[int, int], str] = {}  # id of a weight, expert → the first name of it
    for name, block in named.items():
        _add_block(blocks, name, block, holders)
    for name, linear in _included(model, named, blocks.routers, include).items():
        if blocks.routers.pop(f"{name}.weight", None) is None:
            blocks.outside[name] = linear
        else:
            block = next(block for block in named if name.startswith(f"{block}."))
            blocks.linears[block][name] = linear
    _leave_out(blocks, exclude, type(model).__name__)
    return blocks


def _add_block(
    blocks: Blocks, name: str, block: nn.Module, holders: dict[tuple[int, int], str]
) -> None:
    """Add what a block holds to the blocks; a weight that an earlier one holds is a twin."""
    choosing = {f"{name}.{inner}": weight for inner, weight in routers(block).items()}
    blocks.routers.update(choosing)
    group = blocks.linears[name] = {}
    for inner, linear in (linears_of(block) | experts_of(block)).items():
        full, index = f"{name}.{inner}", getattr(linear, "index", 0)
        if f"{full}.weight" in choosing:
            continue
        first = holders.setdefault((id(weight_of(linear)), index), full)
        if first == full:
            group[full] = linear
        else:
            blocks.twins[full] = (first, linear)
    known = {key for key, _ in holders} | {id(weight) for weight in choosing.values()}
    for inner, weight in other_matrices(block, known).items():
        holders[id(weight), 0] = f"{name}.{inner}"
        blocks.others[f"{name}.{inner}"] = weight


def _leave_out(blocks: Blocks, exclude: Iterable[str], where: str) -> None:
    """Move what patterns name from the linears and the other matrices to the excluded.

    Raises:
        PrunegridError: a pattern names none of them, or they leave no linear.
    """
    groups = [*blocks.linears.values(), blocks.outside]
    linears = {name: module for group in groups for name, module in group.items()}
    known = {*linears, *blocks.others, *(n.removesuffix(".weight") for n in blocks.routers)}
    known |= blocks.twins.keys()
    fused = {n: stored_name(n, m) for n, m in linears.items() if isinstance(m, ExpertLinear)}
    for pattern in exclude:
        matching = set(fnmatch.filter(known, pattern))
        # The name of a tensor of experts stands for all of them.
        matching |= {n for n, tensor in fused.items() if fnmatch.fnmatchcase(tensor, pattern)}
        matching |= {blocks.twins[name][0] for name in matching & blocks.twins.keys()}
        if not matching:
            ends = {f"*.{name.rpartition('.')[2]}" for name in known}
            raise PrunegridError(
                f"exclude pattern '{pattern}' names no linear",
                where=where,
                expected=f"a pattern of full names, such as {min(linears)}",
                remedy=nearest(pattern, ends),
            )
        for group in blocks.linears.values():
            for name in matching & group.keys():
                blocks.excluded[name] = group.pop(name).weight
        for name in matching & blocks.outside.keys():
            del blocks.outside[name]
        for name in matching & blocks.others.keys():
            blocks.excluded[name] = blocks.others.pop(name)
        for name in [n for n, (first, _) in blocks.twins.items() if first in matching]:
            del blocks.twins[name]
    if blocks.excluded and not any(groups):
        raise PrunegridError(
            "exclude leaves no linear to prune",
            where=where,
            expected=f"patterns of some of its {len(linears)} linears",
        )


def _included(
    model: nn.Module, blocks: Iterable[str], routers: Collection[str], include: Iterable[str]
) -> dict[str, nn.Module]:
    """Return full name → module of the routers, and linears outside blocks, that patterns name."""
    inside = tuple(f"{name}." for name in blocks)
    others = {
        name: linear
        for name, linear in (linears_of(model) if include else {}).items()
        if not name.startswith(inside) or f"{name}.weight" in routers
    }
    chosen = set()
    for pattern in include:
        matching = fnmatch.filter(others, pattern)
        if not matching:
            raise PrunegridError(
                f"include pattern '{pattern}' names no linear",
                where=type(model).__name__,
                expected=f"one of those outside the blocks, or a router: {sorted(others)}",
            )
        chosen.update(matching)
    embeddings = getattr(model, "get_input_embeddings", lambda: None)()
    for name in chosen:
        if embeddings is not None and others[name].weight is getattr(embeddings, "weight", None):
            raise PrunegridError(
                f"include names {name}, whose weight is that of the embeddings",
                where=type(model).__name__,
                remedy="leave it out: to prune it would prune the embeddings",
            )
    return {name: module for name, module in others.items() if name in chosen}


def prunable(
    model: nn.Module, *, include: Iterable[str] = ()
) -> dict[str, nn.Module | ExpertLinear]:
    """Return full name → linear for every prunable linear, in the order of the blocks.

    Args, Raises: see `find_blocks`.
    """
    groups = find_blocks(model, include=include).groups().values()
    return {name: linear for linears in groups for name, linear in linears.items()}


def oriented(module: nn.Module | ExpertLinear) -> Tensor:
    """Return a linear's weight as a detached view [d_out, d_in] that shares its memory.

    GPT-2's Conv1D and some fused experts store [d_in, d_out]: their view is the transpose.
    """
    weight = module.weight.detach()
    return weight.t() if is_transposed(module) else weight


def weights_in_memory(linears: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return the weights [d_out, d_in] of linears that are in memory, by the same names."""
    return {name: oriented(module) for name, module in linears.items()}


def linears_of(module: nn.Module) -> dict[str, nn.Module]:
    """Return name → linear (Linear or Conv1D with a 2-D weight) inside `module`, in its order."""
    return {
        name: child
        for name, child in module.named_modules()
        if name
        and (isinstance(child, nn.Linear) or is_transposed(child))
        and child.weight.dim() == 2
    }


def is_transposed(module: nn.Module | ExpertLinear) -> bool:
    """Return whether a module computes x @ W + b, with W [d_in, d_out] (transformers' Conv1D)."""
    if isinstance(module, ExpertLinear):
        return module.flipped
    # By name, so that what only counts weights need not import all of transformers.
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def _repeated_lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """Return name → ModuleList whose children may be blocks; nested lists are left out."""
    hinted = set(getattr(model, "_no_split_modules", None) or ())
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        classes = {type(child).__name__ for child in module}
        if (len(classes) == 1 or classes <= hinted) and all(linears_of(c) for c in module):
            found[name] = module
    return found


def first_tensor(output: Tensor | tuple) -> Tensor:
    """Return the hidden states [batch, tokens, d] in a block's output: a tensor or a tuple."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, tuple) and output and isinstance(output[0], torch.Tensor):
        return output[0]
    raise PrunegridError(
        f"a block returns {type(output).__name__}",
        expected="a tensor of hidden states, or a tuple that begins with one",
        remedy="this architecture is not supported",
    )
