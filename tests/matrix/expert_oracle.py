"""The oracle of fused experts: their matrices, and their inputs by a loop over experts.

It takes from transformers' classes how matrices are stored and what stands between them
(`is_transposed`, `has_bias`, the gate, the activation), and imports nothing of the library.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Expert:
    """One expert's matrix: a part of a tensor that `holder` has for all of them."""

    holder: nn.Module
    leaf: str
    index: int

    @property
    def weight(self) -> Tensor:
        """Return the part as it is stored."""
        return getattr(self.holder, self.leaf)[self.index]

    @property
    def oriented(self) -> Tensor:
        """Return the part as a view [d_out, d_in]."""
        weight = self.weight.detach()
        return weight.t() if is_flipped(self.holder) else weight


def is_flipped(holder: nn.Module) -> bool:
    """Return whether matrices are stored as [d_in, d_out]; Llama 4's are, and do not say so."""
    return getattr(holder, "is_transposed", type(holder).__name__.startswith("Llama4"))


def matrices(holder: nn.Module) -> list[str]:
    """Return the names of the tensors for all experts, in the order in which they multiply."""
    if not type(holder).__name__.endswith("Experts"):
        return []
    own = dict(holder.named_parameters(recurse=False))
    return [leaf for leaf, value in own.items() if value.dim() == 3]


def experts_in(block: nn.Module) -> dict[str, Expert]:
    """Return name in the block (tensor's name, index) → matrix of each expert."""
    return {
        f"{name}.{leaf}.{index}": Expert(holder, leaf, index)
        for name, holder in block.named_modules()
        for leaf in matrices(holder)
        for index in range(len(getattr(holder, leaf)))
    }


@contextlib.contextmanager
def recording(experts: dict[str, Expert], record: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call `record(name, inputs)` for each expert that is reached, inside the context."""
    names = {(id(e.holder), e.leaf, e.index): name for name, e in experts.items()}
    holders = {id(e.holder): e.holder for e in experts.values()}
    for holder in holders.values():
        holder.forward = _loop(holder, names, record)
    try:
        yield
    finally:
        for holder in holders.values():
            del holder.forward


def _loop(holder: nn.Module, names: dict, record: Callable[[str, Tensor], None]) -> Callable:
    """Return a forward that computes one expert after another."""

    def through(index: int, flow: Tensor) -> Tensor:
        for leaf in matrices(holder):
            record(names[id(holder), leaf, index], flow)
            flow = flow @ Expert(holder, leaf, index).oriented.t()
            if getattr(holder, "has_bias", False):
                flow = flow + getattr(holder, f"{leaf}_bias")[index]
            if leaf not in ("down_proj", "weight"):
                flow = _between(holder, flow)
        return holder.post_expert_norm(flow) if hasattr(holder, "post_expert_norm") else flow

    def forward(hidden: Tensor, *routing: Any, **named: Any) -> Tensor:
        count = len(getattr(holder, matrices(holder)[0]))
        if len(matrices(holder)) == 1:  # JetMoE's: the tokens of one expert after another
            parts = hidden.split(routing[0])
            found = [through(i, part) if len(part) else None for i, part in enumerate(parts)]
            return torch.cat([part for part in found if part is not None])
        if not routing and not named:  # every expert is given all tokens, those of others as zeros
            parts = []
            for index, flow in enumerate(hidden.reshape(count, -1, hidden.shape[-1])):
                part = torch.zeros_like(flow)
                chosen = flow.any(1)
                if chosen.any():
                    part[chosen] = through(index, flow[chosen])
                parts.append(part)
            return torch.cat(parts)
        chosen, shares = [*routing, *named.values()][:2]
        total = torch.zeros_like(hidden)
        for index in range(count):
            tokens, place = torch.where(chosen == index)
            if len(tokens):
                total.index_add_(
                    0, tokens, through(index, hidden[tokens]) * shares[tokens, place, None]
                )
        return total

    return forward


def _between(holder: nn.Module, flow: Tensor) -> Tensor:
    """Return what the gate, or the activation alone, makes of the first products."""
    if hasattr(holder, "_apply_gate") and getattr(holder, "has_gate", True):
        return holder._apply_gate(flow)
    if not getattr(holder, "has_gate", True):
        return holder.act_fn(flow)
    gate, up = flow.chunk(2, dim=-1)
    return holder.act_fn(gate) * up
