"""Training in several processes: each holds a share of the weights and takes a share of the rows.

The shares are torch's fully sharded data parallelism (FSDP2, `fully_shard`; Zhao et al. 2023, arXiv
2304.11277). A block's weights are gathered when it runs and freed after it; gradients and Adam's
moments stay in shares. accelerate says which process this is and on which device. The mean loss of
an optimizer step is over the tokens of all processes. It differs from that of one process only by
the order in which floats are summed.

A process that trains alone is a world of size 1, and nothing here touches its tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Return whether this process writes, logs and decides."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> list[tuple[Item, float]]:
        """Return (item, weight) of this process's items, equally many in each process.

        With unequal numbers of passes, processes would wait for each other for ever. So where items
        are too few, the first one is repeated with a weight of 0.
        """
        passes = -(-len(items) // self.size)
        own = range(self.rank, passes * self.size, self.size)
        return [(items[i], 1.0) if i < len(items) else (items[0], 0.0) for i in own]

    def total(self, value: Tensor) -> float:
        """Return the sum of every process's value."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
        return float(value)

    def agreed(self, value: Any) -> Any:
        """Return the leading process's value, so that unequal clocks lead to one decision."""
        if self.size == 1:
            return value
        values = [value]
        torch.distributed.broadcast_object_list(values)
        return values[0]

    def gathered(self, value: Any) -> list[Any]:
        """Return every process's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values


ALONE = World()


def current() -> World:
    """Return the world of this process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return ALONE
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size())


def shard(model: nn.Module, blocks: Sequence[nn.Module], device: str) -> None:
    """Divide a model's weights over the processes, in place, block by block."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(torch.device(device).type, (current().size,))
    for module in (*blocks, model):
        fully_shard(module, mesh=mesh)


def free_gathered(model: nn.Module) -> None:
    """Free the gathered weights that remain after a forward pass without a backward pass.

    Only a backward pass frees those outside the blocks. If they stayed, the next pass would not see
    weights that are set in the shares meanwhile.
    """
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(tensor: Tensor) -> Tensor:
    """Return this process's share of a tensor, in the same memory; the tensor itself if whole."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor, gathered if it is shared; every process must call this."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share_like(full: Tensor, tensor: Tensor) -> Tensor:
    """Return this process's share of `full`, divided as `tensor` is; every process must call this.

    Args:
        full: the whole tensor; the leading process's values count.
    """
    from torch.distributed.tensor import DTensor, distribute_tensor

    full = full.to(tensor.device, tensor.dtype)
    if not isinstance(tensor, DTensor):
        return full
    return distribute_tensor(full, tensor.device_mesh, tensor.placements).to_local()
