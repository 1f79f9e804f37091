"""A model's blocks run one after another by hand, with the arguments that the model gives them.

The model itself computes what enters its first block and what it hands to every block beside the
hidden states (masks, position embeddings); then the blocks can be run one at a time over all
samples. Where the model does something of its own between two blocks (from the last block of an
encoder to the first of its decoder, which is given the encoder's output too; a convolution), it is
run once more for each sample: the blocks before that place only stand in, the one right before it
with the hidden states that the pruned blocks gave.

What a block returns beside its hidden states, for later blocks (T5's position biases), may depend
on positions only: it is taken from another window of the same length. What a block writes into an
argument, for later blocks (Gemma 4's shared keys and values), belongs to its sample. That all this
equals the model's own forward is checked first: on two short windows, every block twice.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks
from prunegrid.models.forward import device_of
from prunegrid.pruning.block_calls import Call, Order, observe, order_of, shared, trace
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
        probe = tokens[:2, :PROBE_TOKENS].to(device_of(model))
        if len(probe) == 1:
            probe = torch.cat([probe, probe.flip(1)])
        order = _require_equal_forward(model, blocks, probe)
        if any(isinstance(value, torch.Tensor) for more in order.extras for value in more or ()):
            whole = observe(model, blocks, tokens[:1].to(probe.device))[0]
            order = Order(order.runs, [seen.extras for seen in whole], order.repeating)
        self._start(model, blocks, tokens, order, storage)

    def _start(
        self, model: nn.Module, blocks: Blocks, tokens: Tensor, order: Order, storage: Storage
    ) -> Replay:
        self.blocks, self.repeating = blocks, order.repeating
        self._model, self._tokens, self._extras = model, tokens, order.extras
        self._runs = {run.start: run for run in order.runs}
        self._calls: list[dict[int, Call]] = [{} for _ in tokens]
        self._device = device_of(model)
        self.hidden = Boundary(len(tokens), self._device, storage)
        for sample in range(len(tokens)):
            self.enter(sample, 0, None)
        return self

    @classmethod
    def unchecked(cls, model: nn.Module, blocks: Blocks, tokens: Tensor, order: Order) -> Replay:
        """Return a replay whose order was told and not checked."""
        return cls.__new__(cls)._start(model, blocks, tokens, order, ON_DEVICE)

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


def _require_equal_forward(model: nn.Module, blocks: Blocks, probe: Tensor) -> Order:
    """Return in which order the blocks run, once run by hand they give what the model gives.

    Args:
        probe: int64 [2, tokens].

    Raises:
        PrunegridError: they do not.
    """
    order = order_of(model, blocks, probe[:1])
    fault = order if isinstance(order, str) else _fault_by_hand(model, blocks, probe, order)
    if fault:
        raise PrunegridError(
            f"the blocks cannot be run one after another: {fault}",
            where=type(model).__name__,
            expected="blocks that pass nothing on but their hidden states and what depends on "
            "positions only",
            remedy="this architecture is not supported",
        )
    return order


def _fault_by_hand(model: nn.Module, blocks: Blocks, probe: Tensor, order: Order) -> str:
    """Return where the blocks run by hand are not what they are in the model; "" for nowhere.

    Each block is run twice on each window, in turns: state that a run leaves behind shows in the
    next one.
    """
    own = [observe(model, blocks, window[None])[0] for window in probe]
    replay = Replay.unchecked(model, blocks, probe, order)
    for index, name in enumerate(blocks.names):
        outputs = []
        for sample in (*range(len(probe)), *range(len(probe))):
            before = replay.hidden[sample].clone()
            try:
                outputs.append(replay.run(index, sample))
            except Exception as error:
                return f"{name} run by hand: {type(error).__name__}: {error}"
            if not torch.allclose(before, replay.hidden[sample], rtol=0, atol=0, equal_nan=True):
                return f"{name} changes its input in place"
        for output, seen in zip(outputs, (*own, *own), strict=True):
            if not _close(output, seen[index].output):
                return f"{name} gives something else than inside the model"
        if not all(is_finite(output) for output in outputs):
            return ""  # pruning names the linear and the sample
        for sample, output in enumerate(outputs[len(probe) :]):
            if not replay.is_last(index):
                replay.advance(index, sample, output)
    return ""


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True)
