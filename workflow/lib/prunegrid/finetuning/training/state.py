"""What a run under way is made of, as tensors by name: to be saved, and to be taken up again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunegrid.finetuning.training.distributed import World, share_like, whole


def held(
    weights: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    world: World,
    device: str,
) -> dict[str, Tensor]:
    """Return all that a run's further course depends on, its plain facts apart.

    Tensors are whole, so every process must ask; random states are those of all processes.

    Args:
        weights: those that are trained, by name.
        best: those of the step with the lowest development loss so far.
        optimizer: of the run.
        world: the processes that train together.
        device: on which this one trains.
    """
    tensors = {f"weight/{name}": whole(p.detach()) for name, p in weights.items()}
    tensors |= {f"best/{name}": tensor for name, tensor in best.items()}
    for name, parameter in weights.items():
        state = optimizer.state.get(parameter, {})
        tensors |= {f"optimizer/{key}/{name}": whole(value) for key, value in state.items()}
    for kind, state in _random(device).items():
        states = world.gathered(state)
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


def take_up(
    parts: Mapping[str, Mapping[str, Tensor]],
    weights: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    world: World,
    device: str,
) -> dict[str, Tensor]:
    """Return a run's best weights; give its optimizer and the random generators their state back.

    Args:
        parts: of what was saved, by `parts_of`; the others are as of `held`.
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
    """Return an optimizer's tensor where and as the parameter is; its counter is one number."""
    from torch.distributed.tensor import DTensor

    if key == "step" or not isinstance(parameter, DTensor):
        return tensor.to(parameter.device, copy=True)
    found = torch.zeros_like(parameter)
    found.to_local().copy_(share_like(tensor, parameter))
    return found
