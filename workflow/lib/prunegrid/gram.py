"""XᵀX of inputs that come sample by sample: one triangle, mirrored once, float32.

On a CPU wide inputs wait until 2048 tokens are there, and go through the product that
`prunegrid.products` says is the fastest: for OPT-125m's second FFN linear 0.93 of the time of
adding each sample's 512 tokens as it comes. Narrow ones gain nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from prunegrid.products import product

# Columns a step of the triangular update; wider wastes work above the diagonal, narrower calls.
PANEL = 256
# From this width on tokens are gathered, so many at once.
WIDE, GATHERED = 1024, 2048


class Gram:
    """The sum of XᵀX over samples.

    Args:
        width: d_in.
        device: where the sum lives.
    """

    def __init__(self, width: int, device: torch.device | str) -> None:
        self._sum = torch.zeros(width, width, device=device)
        self._gathers = width >= WIDE and self._sum.device.type == "cpu"
        self._waiting: Tensor | None = None
        self._count = 0

    def add(self, inputs: Tensor) -> None:
        """Add a sample's inputs, float32 [tokens, d_in]."""
        if not self._gathers:
            for start in range(0, inputs.shape[1], PANEL):
                end = start + PANEL
                self._sum[start:end, :end].addmm_(inputs[:, start:end].t(), inputs[:, :end])
            return
        if self._waiting is None:
            self._waiting = torch.empty(len(self._sum), GATHERED)
        while len(inputs):
            room = inputs[: GATHERED - self._count]
            self._waiting[:, self._count : self._count + len(room)] = room.t()
            self._count, inputs = self._count + len(room), inputs[len(room) :]
            if self._count == GATHERED:
                self._flush()

    def _flush(self) -> None:
        if not self._count:
            return
        columns = self._waiting[:, : self._count].contiguous()
        for start in range(0, len(columns), PANEL):
            end = start + PANEL
            self._sum[start:end, :end] += product(columns[start:end], columns[:end])
        self._count = 0

    def __add__(self, other: Gram) -> Gram:
        """Return a new sum of what both have seen."""
        both = Gram(len(self._sum), self._sum.device)
        self._flush()
        other._flush()
        torch.add(self._sum, other._sum, out=both._sum)
        return both

    def finish(self) -> Tensor:
        """Return XᵀX, float32 [d_in, d_in], symmetric; the sum is spent."""
        self._flush()
        total, self._sum, self._waiting = self._sum, None, None
        # By panels: five times as fast as to add a transposed triangle.
        for start in range(0, len(total), PANEL):
            end = start + PANEL
            corner = total[start:end, start:end].tril_()
            corner += corner.tril(-1).t()
            total[start:end, end:] = total[end:, start:end].t()
        return total
