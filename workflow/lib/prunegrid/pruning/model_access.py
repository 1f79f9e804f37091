"""Access to a model while it is pruned: whole, or a block at a time (`pruning.offload`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from prunegrid.models.blocks import weights_in_memory
from prunegrid.pruning.hidden_states import ON_DEVICE, Storage


class Holding:
    """A model that is whole in memory.

    Attributes:
        whole: False if only one block is in memory at a time.
        storage: how hidden states between blocks are held.
    """

    whole = True

    def __init__(self, storage: Storage = ON_DEVICE) -> None:
        self.storage = storage

    def resident(self, index: int) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the block of an index is in memory, as it is changed."""
        return contextlib.nullcontext()

    def weights_of(self, linears: Mapping[str, nn.Module]) -> Mapping[str, Tensor]:
        """Return the weights [d_out, d_in] of some linears, by the same names."""
        return weights_in_memory(linears)


WHOLE = Holding()


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, inside the context."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
