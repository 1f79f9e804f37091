"""What each parameter of a model is: its kind, and the block that it is in, by structure.

No names of models, layers or parameters decide anything; what does is where a module stands, its
class, and the shape of what it holds:
- `embedding`: of a table (nn.Embedding): tokens, positions, types, T5's relative positions; a head
  that is tied to a table is that table;
- `norm`: vectors of a module that holds vectors alone and no other modules: scales and shifts;
- `bias`: all other vectors, also those of fused experts, [experts, d];
- `attention`: matrices of a block below a module whose class is an attention (transformers calls
  every one of them `…Attention…`), those of cross-attention too;
- `mlp`: the other linears of a block, those of fused experts too;
- `other`: what else a block holds;
- `outside`: matrices of no block: an untied head, a pooler, OPT-350m's projections, DeBERTa's
  convolution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from prunegrid.models.blocks import find_blocks, is_transposed
from prunegrid.models.experts import holds_experts

KINDS = ("attention", "mlp", "other", "norm", "bias", "outside", "embedding")


@dataclass(frozen=True)
class Place:
    """What a parameter is.

    Attributes:
        kind: one of KINDS.
        stack: name of the list of blocks that it is in; None outside of all blocks.
        block: index of its block in the stack; None outside.
        blocks: how many blocks the stack has; None outside.
    """

    kind: str
    stack: str | None = None
    block: int | None = None
    blocks: int | None = None


def places(model: nn.Module, stored: Collection[str]) -> dict[str, Place]:
    """Return stored name → place of each parameter.

    Args:
        model: of transformers; its weights need not be there (meta).
        stored: the names that its files have. A shared weight is stored once, and is a table if
            any of its names is one's; what the model would share but the files hold twice (a T5
            v1.1's head, whose config cannot say so) are two weights.

    Raises:
        PrunegridError: its blocks cannot be found.
    """
    found = find_blocks(model)
    attentions = {
        f"{name}.{inner}"
        for name, block in zip(found.names, found.modules, strict=True)
        for inner, module in block.named_modules()
        if inner and "attention" in type(module).__name__.lower()
    }
    stacks = Counter(name.rpartition(".")[0] for name in found.names)
    groups: dict[int, list[tuple[str, nn.Module, Tensor]]] = {}
    for named in _owned(model):
        groups.setdefault(id(named[2]), []).append(named)
    known = {}
    for group in groups.values():
        kept = [named for named in group if named[0] in stored]
        tables = [named for named in kept if isinstance(named[1], nn.Embedding)]
        shared = [named for named in group if isinstance(named[1], nn.Embedding)]
        for own in kept:
            name, owner, parameter = own if tables or not shared else shared[0]
            stack, block = _block_of(name, stacks)
            kind = _kind(name, owner, parameter, stack is not None, attentions)
            known[own[0]] = Place(kind, stack, block, stacks[stack] if stack else None)
    return known


def _owned(model: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield (full name, the module that holds it, parameter), a shared one under each name."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        for leaf, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield f"{prefix}.{leaf}" if prefix else leaf, module, parameter


def _block_of(name: str, stacks: Iterable[str]) -> tuple[str | None, int | None]:
    for stack in stacks:
        if name.startswith(f"{stack}."):
            return stack, int(name.removeprefix(f"{stack}.").partition(".")[0])
    return None, None


def _kind(
    name: str, owner: nn.Module, parameter: Tensor, inside: bool, attentions: set[str]
) -> str:
    if isinstance(owner, nn.Embedding):
        return "embedding"
    if parameter.dim() < 2:
        alone = all(p.dim() < 2 for p in owner.parameters(recurse=False))
        return "norm" if alone and not list(owner.children()) else "bias"
    if holds_experts(owner) and parameter.dim() == 2:
        return "bias"
    if not inside:
        return "outside"
    parts = name.split(".")
    if any(".".join(parts[:end]) in attentions for end in range(1, len(parts))):
        return "attention"
    linear = isinstance(owner, nn.Linear) or is_transposed(owner) or holds_experts(owner)
    return "mlp" if linear else "other"
