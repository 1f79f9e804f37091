"""How a model is held while it is pruned: whole, or a block at a time (`pruning.offload`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from prunegrid.models.blocks import weights_in_memory
from prunegrid.pruning.hidden_states import ON_DEVICE, Storage


def _always(index: int) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Holding:
    """How a model is held.

    Attributes:
        whole: all of its weights are in memory.
        resident: gives a context in which the block of an index is in memory, as it is changed.
        weights_of: some linears → their weights [d_out, d_in] before pruning.
        storage: how hidden states between blocks are held.
        done: is given a block's name and its pruned linears [d_out, d_in] while it is resident.
    """

    whole: bool = True
    resident: Callable[[int], contextlib.AbstractContextManager[None]] = _always
    weights_of: Callable[[Mapping[str, nn.Module]], Mapping[str, Tensor]] = weights_in_memory
    storage: Storage = ON_DEVICE
    done: Callable[[str, dict[str, Tensor]], None] | None = None


WHOLE = Holding()
