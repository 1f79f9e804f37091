"""Which tensors of a model's files its class took, and which may be left out or added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError


def account(
    model: nn.Module, info: dict, task: str, where: str, tensors: Mapping[str, Tensor]
) -> str | None:
    """Return a note on tensors left out or added, after checking that all others are the config's.

    An encoder or masked language model loses the heads of other tasks; an encoder's missing pooler
    is set to zero: no layer's output depends on either, and random numbers would not be repeatable.

    Args:
        info: transformers' loading info.
        tensors: those of the files.

    Raises:
        PrunegridError: tensors are missing, left over, or of another shape.
    """
    missing, extra = set(info["missing_keys"]), set(info["unexpected_keys"])
    notes = []
    constants = {name for name in extra if name in tensors and is_constant(name, tensors, model)}
    for end, count in Counter(name.rpartition(".")[2] for name in sorted(constants)).items():
        notes.append(f"left out: {count} times {end}, a constant")
    extra -= constants
    if task == "encoder":
        pooler = {name for name in missing if "pooler" in name.split(".")}
        for name in pooler:
            nn.init.zeros_(model.get_parameter(name))
        if pooler:
            notes.append("the source has no pooler: zeros stand in its place")
        missing -= pooler
    if task in ("encoder", "masked-lm"):
        if extra:
            notes.append("left out: " + ", ".join(sorted({name.split(".")[0] for name in extra})))
        extra = set()
    amiss = {
        "missing": missing,
        "left over": extra,
        "of another shape": {str(item[0]) for item in info["mismatched_keys"]},
    }
    for fault, names in amiss.items():
        if names:
            listed = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            raise PrunegridError(
                f"{len(names)} tensors are {fault}: {listed}",
                where=where,
                expected="exactly the tensors that its config.json describes",
                remedy="the folder is incomplete, or of another model: download it again",
            )
    return "; ".join(notes) or None


def is_constant(name: str, tensors: Mapping[str, Tensor], model: nn.Module) -> bool:
    """Return whether a tensor of a file is one that the model computes itself.

    Older releases saved the score of a masked place, the causal mask, the positions 0, 1, 2, … and
    the frequencies of rotary positions.
    """
    tensor, end = tensors[name].float(), name.rpartition(".")[2]
    if end == "masked_bias":
        return tensor.numel() == 1
    if end == "bias" and tensor.dim() == 4:
        square = tensor.new_ones(tensor.shape[-2:])
        return tensor.shape[-1] > 1 and torch.equal((tensor != 0).float()[0, 0], square.tril())
    if end == "position_ids":
        count = torch.arange(tensor.shape[-1], dtype=tensor.dtype)
        return torch.equal(tensor, count.expand_as(tensor))
    if end == "inv_freq":
        own = (b.float() for n, b in model.named_buffers() if n.endswith("inv_freq"))
        return any(b.shape == tensor.shape and torch.allclose(b, tensor, rtol=1e-2) for b in own)
    return False
