"""The state of an unfinished run as tensors by name, to save it and to resume from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunegrid.finetuning.training.distributed import World, local, share_like, whole


def snapshot(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of whole weights in main memory, by name."""
    return {name: whole(w.detach()).to("cpu", copy=True) for name, w in weights.items()}


def restore(weights: Mapping[str, Tensor], copies: Mapping[str, Tensor]) -> None:
    """Set weights, in place, to the values of their copies (see `snapshot`)."""
    with torch.no_grad():
        for name, weight in weights.items():
            local(weight).copy_(share_like(copies[name], weight))


def tensors_of(
    weights: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    world: World,
    device: str,
) -> dict[str, Tensor]:
    """Return all tensors that the rest of a run depends on, by "part/name".

    Tensors are whole, so every process must call this. Random states are those of all processes.

    Args:
        weights: the trained ones, by name.
        best: the weights with the lowest development loss so far; {} where none are needed.
        optimizer: of the run.
        world: the processes that train together.
        device: of this process.
    """
    tensors = {f"weight/{name}": whole(p.detach()) for name, p in weights.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for name, parameter in weights.items():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer/{key}/{name}": whole(value) for key, value in state.items()}
    for kind, state in _random(device).items():
        states = world.gathered(state)
        tensors |= {f"random/{kind}/{rank}": one for rank, one in enumerate(states)}
    return tensors


def _random(device: str) -> dict[str, Tensor]:
    """Return the states of the random generators that a run draws from."""
    states = {"cpu": torch.get_rng_state()}
    if device.startswith("cuda"):
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def parts_of(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return {part: {name: tensor}} of saved tensors."""
    parts: dict[str, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        part, _, name = path.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return parts


def resume(
    parts: Mapping[str, Mapping[str, Tensor]],
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    world: World,
    device: str,
) -> dict[str, Tensor]:
    """Give the optimizer and the random generators their saved state; return the best weights.

    Args:
        parts: of the saved tensors, by `parts_of`. The other arguments are those of `tensors_of`.
    """
    for path, tensor in parts["optimizer"].items():
        key, _, name = path.partition("/")
        parameter = weights[name]
        optimizer.state[parameter][key] = _like_state(key, tensor, parameter)
    torch.set_rng_state(parts["random"][f"cpu/{world.rank}"])
    if f"cuda/{world.rank}" in parts["random"]:
        torch.cuda.set_rng_state(parts["random"][f"cuda/{world.rank}"], device)
    return {name: tensor.clone() for name, tensor in parts.get("best", {}).items()}


def _like_state(key: str, tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return an optimizer's tensor on the device and in the shares of its parameter.

    The step counter is a single number, which is not shared out.
    """
    from torch.distributed.tensor import DTensor

    if key == "step" or not isinstance(parameter, DTensor):
        return tensor.to(parameter.device, copy=True)
    shared = torch.zeros_like(parameter)
    shared.to_local().copy_(share_like(tensor, parameter))
    return shared
