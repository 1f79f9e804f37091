"""What a run under way is made of, as tensors by name: to be saved, and to be taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prunegrid.finetuning.training.distributed import share_like, whole

if TYPE_CHECKING:
    from prunegrid.finetuning.training.loop import Loop


def held(loop: Loop) -> dict[str, Tensor]:
    """Return all that a run's further course depends on, its plain facts apart.

    Tensors are whole, so every process must ask; random states are those of all processes.
    """
    tensors = {f"weight/{name}": whole(p.detach()) for name, p in loop.weights.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in loop.best.items()}
    for name, parameter in loop.weights.items():
        state = loop.optimizer.state.get(parameter, {})
        tensors |= {f"optimizer/{key}/{name}": whole(value) for key, value in state.items()}
    for kind, state in _random(loop.task.device).items():
        states = loop.task.world.gathered(state)
        tensors |= {f"random/{kind}/{rank}": found for rank, found in enumerate(states)}
    return tensors


def _random(device: str) -> dict[str, Tensor]:
    """Return the random states that a run draws from."""
    found = {"cpu": torch.get_rng_state()}
    if device.startswith("cuda"):
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def parts_of(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return {part: {name: tensor}} of what was saved."""
    parts: dict[str, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        part, _, name = path.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return parts


def take_up(loop: Loop, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Give a run its optimizer's state, its best weights and the random state back."""
    loop.best = {name: tensor.clone() for name, tensor in parts.get("best", {}).items()}
    for path, tensor in parts["optimizer"].items():
        key, _, name = path.partition("/")
        parameter = loop.weights[name]
        loop.optimizer.state[parameter][key] = _like_state(key, tensor, parameter)
    rank = loop.task.world.rank
    torch.set_rng_state(parts["random"][f"cpu/{rank}"])
    if f"cuda/{rank}" in parts["random"]:
        torch.cuda.set_rng_state(parts["random"][f"cuda/{rank}"], loop.task.device)


def _like_state(key: str, tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return an optimizer's tensor where and as the parameter is; its counter is one number."""
    from torch.distributed.tensor import DTensor

    if key == "step" or not isinstance(parameter, DTensor):
        return tensor.to(parameter.device, copy=True)
    found = torch.zeros_like(parameter)
    found.to_local().copy_(share_like(tensor, parameter))
    return found
