"""A model's blocks run one after another by hand, with the arguments that the model gives them.

The model itself computes what enters its first block and what it hands to every block beside the
hidden states (masks, position embeddings); then the blocks can be run one at a time over all
samples. Where the model does something of its own between two blocks (from the last block of an
encoder to the first of its decoder, which is given the encoder's output too; a convolution), it is
run once more for each sample: the blocks before that place only stand in, the one right before it
with the hidden states that the pruned blocks gave.

What a block returns beside its hidden states, for later blocks (T5's position biases), may depend
on positions only: it is taken from another window of the same length. That all this equals the
model's own forward is checked on a short window before it is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks
from prunegrid.models.forward import device_of
from prunegrid.pruning.block_calls import Call, observe, require_equal_forward, shared, trace
from prunegrid.pruning.fast_linear import FastLinear
from prunegrid.pruning.hidden_states import ON_DEVICE, Boundary, Storage
from prunegrid.pruning.input_stats import is_finite

PROBE_TOKENS = 8


class Replay:
    """Hidden states of every sample at one block boundary, and how to take them to the next.

    Attributes:
        hidden: one [1, tokens, d] tensor a sample, in the model's dtype.
        repeating: indices of the blocks that call one of their linears more than once.

    Args:
        model: in eval mode, on its device.
        blocks: its blocks.
        tokens: int64 [samples, length].
        storage: how the hidden states are held.

    Raises:
        PrunegridError: run by hand, the blocks do not give what the model gives.
    """

    def __init__(
        self, model: nn.Module, blocks: Blocks, tokens: Tensor, storage: Storage = ON_DEVICE
    ) -> None:
        self.blocks = blocks
        self._calls: list[dict[int, Call]] = [{} for _ in tokens]
        self._model, self._tokens = model, tokens
        self._device = device_of(model)
        self.hidden = Boundary(len(tokens), self._device, storage)
        probe = tokens[:1, :PROBE_TOKENS].to(self._device)
        runs, extras, self.repeating = require_equal_forward(model, blocks, probe)
        if any(isinstance(value, torch.Tensor) for more in extras for value in more or ()):
            extras = [seen.extras for seen in observe(model, blocks, tokens[:1].to(self._device))]
        self._runs, self._extras = {run.start: run for run in runs}, extras
        for sample in range(len(tokens)):
            self.enter(sample, 0, None)

    def enter(self, sample: int, start: int, ended: Tensor | None) -> None:
        """Have the model itself say what enters block `start` and how it and the next are called.

        Args:
            ended: the output of the block before it.
        """
        window = self._tokens[sample][None].to(self._device)
        run = self._runs[start]
        self.hidden[sample], calls = trace(
            self._model, self.blocks, window, run, ended, self._extras
        )
        first = self._calls[0]
        self._calls[sample] = {i: shared(call, first.get(i, call)) for i, call in calls.items()}

    @property
    def device(self) -> torch.device:
        """Where the blocks run and statistics live."""
        return self._device

    def is_last(self, index: int) -> bool:
        """Return whether no block comes after this one."""
        return index + 1 == len(self.blocks.names)

    def run(self, index: int, sample: int) -> Tensor:
        """Return block `index`'s output for a sample, whose stored hidden states stay."""
        with FastLinear():
            return self._calls[sample][index].run(self.blocks.modules[index], self.hidden[sample])

    def advance(self, index: int, sample: int, output: Tensor) -> None:
        """Store a sample's output of block `index` as the next block's input.

        Raises:
            PrunegridError: it holds NaN or infinity.
        """
        if not is_finite(output):
            raise PrunegridError(
                "NaN or infinite activations",
                where=f"{self.blocks.names[index]}, calibration sample {sample}",
                remedy="the model is broken or its dtype too narrow: check its weights, or load "
                "it in float32",
            )
        if index + 1 in self._runs:
            self.enter(sample, index + 1, output)
        else:
            self.hidden[sample] = output
