"""A model's blocks run one after another by hand, with the arguments that the model gives them.

The model itself computes what enters its first block and what it hands to every block beside the
hidden states (masks, position embeddings); then the blocks can be run one at a time over all
samples. Where the model does something of its own between two blocks (an encoder and its decoder,
a convolution), it is run once more for each sample: the blocks before that place only stand in, the
last of them with the hidden states that the pruned blocks gave.

What a block returns beside its hidden states (T5's position biases) may depend on positions only:
it is taken from another window of the same length. What a block writes into an argument, for later
blocks (Gemma 4's shared keys and values), belongs to its sample. Two short windows show first that
all this equals the model's own forward.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks
from prunegrid.models.forward import device_of
from prunegrid.pruning.block_calls import PROBES, Call, OwnForward, shared
from prunegrid.pruning.fast_linear import FastLinear
from prunegrid.pruning.holding import ON_DEVICE, Boundary, Storage
from prunegrid.pruning.input_stats import InputStats, activations_error, collect, is_finite


class Replay:
    """Hidden states of every sample at one block boundary, and how to take them to the next.

    Attributes:
        device: where the blocks run and statistics live.
        hidden: one [1, tokens, d] tensor a sample, in the model's dtype.
        samples: the numbers of the samples.
        repeating: indices of the blocks that call one of their linears more than once.

    Args:
        model: in eval mode.
        tokens: int64 [samples, length].

    Raises:
        PrunegridError: run by hand, the blocks do not give what the model gives, or they share
            weights.
    """

    def __init__(
        self, model: nn.Module, blocks: Blocks, tokens: Tensor, storage: Storage = ON_DEVICE
    ) -> None:
        if shared := blocks.shared():
            raise PrunegridError(
                f"linears of its blocks share the weights of others: {', '.join(shared[:3])}",
                where=type(model).__name__,
                expected="blocks with weights of their own, to be run one after another",
                remedy="use magnitude, or Wanda with propagation: dense",
            )
        self.blocks, self.device, self.samples = blocks, device_of(model), range(len(tokens))
        self._calls: list[dict[int, Call]] = [{} for _ in tokens]
        self._tokens = tokens
        self.hidden = Boundary(len(tokens), self.device, storage)
        self._forward = OwnForward(model, blocks, tokens[:PROBES].to(self.device))
        self._runs, self.repeating = self._forward.runs, self._forward.repeating
        for sample in self.samples:
            self.enter(sample, 0, None)

    def enter(self, sample: int, start: int, ended: Tensor | None) -> None:
        """Have the model say what enters block `start` and how it and the next ones are called.

        `ended` is the output of the block before it.
        """
        window = self._tokens[sample][None].to(self.device)
        self.hidden[sample], calls = self._forward.trace(window, start, ended)
        first = self._calls[0]
        self._calls[sample] = {i: shared(call, first.get(i, call)) for i, call in calls.items()}

    def linears(self, index: int) -> dict[str, nn.Module]:
        """Return full name → linear of block `index`."""
        return self.blocks.linears[self.blocks.names[index]]

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
            raise activations_error(f"{self.blocks.names[index]}, calibration sample {sample}")
        if index + 1 in self._runs:
            self.enter(sample, index + 1, output)
        else:
            self.hidden[sample] = output

    def advance_all(self, index: int) -> None:
        """Move all samples past block `index`, unless it is the last one."""
        if not self.is_last(index):
            for sample in self.samples:
                self.advance(index, sample, self.run(index, sample))

    def stats(
        self, index: int, needs: str, linears: Mapping[str, nn.Module] | None = None
    ) -> dict[str, InputStats]:
        """Return full linear name → statistics of block `index` as it is; the samples stay.

        Args:
            linears: some of the block's; None takes all.
        """
        linears = self.linears(index) if linears is None else linears
        run = functools.partial(self.run, index)
        return collect(linears, needs, self.device, self.samples, run, twins=self.blocks.twins)

    def dense_stats(self, index: int, needs: str) -> dict[str, InputStats]:
        """Return the statistics of a block that is not changed, and move all samples past it."""
        run = functools.partial(self.run, index)
        take = None if self.is_last(index) else functools.partial(self.advance, index)
        linears, twins = self.linears(index), self.blocks.twins
        return collect(linears, needs, self.device, self.samples, run, take, twins)
