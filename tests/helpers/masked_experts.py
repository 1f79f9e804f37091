"""A mixture whose routers never choose some experts, by −∞ in place of their logits.

Nothing here asks the library where a router is: it is what has fewer rows in the smaller model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from unittest import mock

import torch
from torch import nn


@contextlib.contextmanager
def masked(full: nn.Module, small: nn.Module, gone: Mapping[str, list[int]]) -> Iterator[None]:
    """Let no token choose the experts of blocks that are gone, inside the context.

    Args:
        full: in float32; its biases of routers are changed meanwhile.
        small: the same model without these experts.
        gone: name of a block → experts.
    """
    matrices, kept = {}, {}
    now = small.state_dict()
    for name, tensor in full.state_dict(keep_vars=True).items():
        block = next((block for block in gone if name.startswith(f"{block}.")), None)
        if block is None or ".experts." in name or tensor.shape == now[name].shape:
            continue
        if tensor.dim() == 2 and tensor.shape[0] > 1:
            matrices[tensor.data_ptr()] = gone[block]
        else:
            kept[name] = (tensor.detach(), tensor.detach().clone())
            tensor.detach()[..., gone[block]] = -torch.inf
    plain = nn.functional.linear

    def linear(hidden, weight, *others, **named):
        output = plain(hidden, weight, *others, **named)
        if weight.data_ptr() in matrices:
            output[..., matrices[weight.data_ptr()]] = -torch.inf
        return output

    assert matrices, "no router has fewer rows"
    with mock.patch("torch.nn.functional.linear", linear):
        yield
    for tensor, before in kept.values():
        tensor.copy_(before)


def gone_of(story: Mapping) -> dict[str, list[int]]:
    """Return block → the experts that went, of a step's `prune.json`."""
    return {
        block: kinds["experts"]["indices"]
        for block, kinds in story["blocks"].items()
        if kinds["experts"]["units"]
    }
