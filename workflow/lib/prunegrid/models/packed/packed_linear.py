"""A linear whose weight stays packed, and linears that share their input in one product."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prunegrid.models.packed.packed_matrix import PackedMatrix, stacked

# Tokens up to which kernels multiply packed rows themselves (FEW_TOKENS of operators.cpp).
FEW_TOKENS = 8


class PackedLinear(nn.Module):
    """x Wᵀ + b with a packed weight, for inference on a CPU; in the place of Linear or Conv1D.

    Attributes:
        matrix: the weight [d_out, d_in].
        bias: float [d_out], or None.
        transposed: the weight's file has it as [d_in, d_out] (Conv1D).
        together: the product of all linears that read the same input; None for one alone.
        place: the columns of this linear in that product.
        reads: how often something asked for `weight`.
    """

    def __init__(self, matrix: PackedMatrix, bias: nn.Parameter | None, transposed: bool) -> None:
        super().__init__()
        self.matrix, self.bias, self.transposed = matrix, bias, transposed
        self.in_features, self.out_features = matrix.columns, matrix.rows
        self.together: SharedInput | None = None
        self.place = slice(0, matrix.rows)
        self.reads = 0

    @property
    def weight(self) -> Tensor:
        """The dense weight, as its file has it: made anew each time, so a change of it is lost."""
        self.reads += 1
        return self.stored()

    def stored(self) -> Tensor:
        """Return the dense weight in its stored dtype and orientation."""
        dense = self.matrix.dense()
        return dense.t().contiguous() if self.transposed else dense

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b, [..., d_out], in the dtype of x [..., d_in]."""
        few = x.numel() <= FEW_TOKENS * self.in_features
        # A compiled graph cannot ask whether a tensor is the one of the call before.
        alone = torch.compiler.is_compiling() or x.is_inference()
        if self.together is not None and few and not alone:
            return self.together.product(x, self.place)
        return self.matrix.times(x, self.bias)

    def extra_repr(self) -> str:
        """Return the shape and the form, for `print(model)`."""
        share = self.matrix.zeros / (self.in_features * self.out_features)
        sizes = f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"
        return f"{sizes}, values={self.matrix.value_type}, zeros={share:.1%}"

    def _save_to_state_dict(self, destination, prefix: str, keep_vars: bool) -> None:
        """Give the dense weight, so that a saved model is one of plain transformers."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self.stored()


class SharedInput:
    """Linears that read the same input one after the other, and are multiplied in one call.

    The first one that is called computes for all. The others take their columns if they are given
    the very same tensor, unchanged since; else each computes for itself.

    Args:
        linears: of the same input width and type of values, in the order in which they are called.
    """

    def __init__(self, linears: Sequence[PackedLinear]) -> None:
        self.matrix = stacked([linear.matrix for linear in linears])
        self.bias = None
        if any(linear.bias is not None for linear in linears):
            zeros = (torch.zeros(linear.out_features) for linear in linears)
            pairs = zip(linears, zeros, strict=True)
            self.bias = torch.cat([zero if it.bias is None else it.bias for it, zero in pairs])
            self.bias = self.bias.detach()
        first = 0
        for linear in linears:
            last = first + linear.out_features
            linear.matrix, linear.together = self.matrix.slice(first, last), self
            linear.place = slice(first, last)
            first = last
        self._done: tuple[Tensor, int, Tensor] | None = None

    def product(self, x: Tensor, place: slice) -> Tensor:
        """Return the columns of one linear, of the product with x of at most FEW_TOKENS tokens."""
        done = self._done
        if done is None or done[0] is not x or done[1] != x._version:
            done = (x, x._version, self.matrix.times(x, self.bias))
        # The input is let go of with the last one that reads it.
        self._done = None if place.stop == self.matrix.rows else done
        return done[2][..., place].contiguous()


@contextmanager
def recorded_inputs(model: nn.Module) -> Iterator[list[tuple[PackedLinear, Tensor, int]]]:
    """Yield a list that gets (linear, input, version of the input) of each call of a packed one."""
    calls: list[tuple[PackedLinear, Tensor, int]] = []

    def note(linear: nn.Module, inputs: tuple) -> None:
        calls.append((linear, inputs[0], inputs[0]._version))

    linears = [module for module in model.modules() if isinstance(module, PackedLinear)]
    hooks = [linear.register_forward_pre_hook(note) for linear in linears]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def share_inputs(calls: Sequence[tuple[PackedLinear, Tensor, int]]) -> int:
    """Join linears that were called one after the other with one input; return how many sets.

    Args:
        calls: of one forward pass. A linear that was called more than once stays alone.
    """
    counts: dict[int, int] = {}
    for linear, _, _ in calls:
        counts[id(linear)] = counts.get(id(linear), 0) + 1
    sets: list[list[PackedLinear]] = []
    before = None
    for linear, x, version in calls:
        if counts[id(linear)] > 1:
            before = None
            continue
        matrix = linear.matrix
        found = (id(x), version, matrix.value_type, matrix.dtype)
        if found == before:
            sets[-1].append(linear)
        else:
            sets.append([linear])
        before = found
    joined = [linears for linears in sets if len(linears) > 1]
    for linears in joined:
        SharedInput(linears)
    return len(joined)
