"""A smaller model computes what the full one does when the units that went give nothing.

Shapes do not tell whether units are independent: a norm may be over all heads, heads may be mixed,
what a block adds may be scaled by the number of blocks.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models.forward import device_of, final_states, run_window
from prunegrid.pruning.structured import shapes
from prunegrid.pruning.structured.config_search import smaller_config
from prunegrid.pruning.structured.masked_experts import without_experts
from prunegrid.pruning.structured.units import Units

log = logging.getLogger(__name__)

# Of the largest logit, in float32: sums of fewer terms round otherwise.
TOLERANCE = 1e-3
# The remedy of all refusals here.
UNSUPPORTED = (
    "units of this architecture are not independent: it is not supported for these `units`"
)


@contextlib.contextmanager
def silenced(units: Units, removed: Mapping) -> Iterator[None]:
    """Let units give nothing, inside the context: zeros to what reads them.

    Blocks that go hand on what they are given; experts that go are chosen by no token.
    """

    def hand_on(block: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    def without(columns: Tensor) -> Any:
        def zero(module: nn.Module, args: tuple) -> tuple:
            return args[0].index_fill(-1, columns.to(args[0].device), 0), *args[1:]

        return zero

    modules = dict(zip(units.blocks.names, units.blocks.modules, strict=True))
    with contextlib.ExitStack() as hooks:
        if experts := units.of("experts"):
            hooks.enter_context(without_experts(units.model, experts, removed))
        for group in units.groups:
            going = removed[group.kind, group.block]
            if group.kind == "blocks" and len(going):
                block = modules[group.block]
                hooks.callback(block.register_forward_hook(hand_on, with_kwargs=True).remove)
            for name, columns in group.columns.items():
                hook = without(columns[going].flatten())
                hooks.callback(units.linears[name].register_forward_pre_hook(hook).remove)
        yield


@torch.no_grad()
def require_removable(units: Units, removed: Mapping, probe: Tensor, where: str) -> None:
    """Check that the smaller model can be said, and computes what it should, before any work.

    Args:
        removed: (kind, block) → units that go.
        probe: int64 [1, length], some tokens.

    Raises:
        PrunegridError: no config says what stays, or the smaller model computes something else.
    """
    kept, device = shapes.kept_of(units, removed), device_of(units.model)
    small = shapes.smaller_model(units, kept, smaller_config(units, kept)).to(device)
    probe = probe.to(device)
    words = {"where": where, "expected": "blocks that can be left out", "remedy": UNSUPPORTED}
    try:
        with silenced(units, removed):
            expected, writes = outputs(units.model, probe), _writes(units.model, probe)
        words["expected"] = "the computation of the model whose units give nothing"
        found = outputs(small, probe)
    except Exception as error:  # from anywhere in a model's code
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PrunegridError(f"it cannot run without these units: {line}", **words) from error
    require_equal(found, expected, where)
    if writes and not _writes(small, probe):
        raise PrunegridError(
            "without these units it cannot write with a cache",
            where=where,
            expected="logits with a cache that are those without one, as in the full model",
            remedy="keep a block of each kind: lower `sparsity`, or take other `units`",
        )


@torch.no_grad()
def outputs(model: nn.Module, probe: Tensor) -> Tensor:
    """Return the logits of some tokens; of a model without a head its last hidden states."""
    return final_states(run_window(model, probe))


def require_equal(logits: Tensor, expected: Tensor, where: str) -> None:
    """Check that a smaller model's logits are those of the model whose units give nothing.

    Raises:
        AttestationError: they differ by more than rounding.
    """
    tolerance = max(TOLERANCE, 8 * torch.finfo(expected.dtype).eps)
    worst, scale = float((logits - expected).abs().max()), float(expected.abs().max())
    log.info("%s: logits differ from the model with zeros by %.2g of %.2g", where, worst, scale)
    if not worst <= tolerance * max(scale, 1e-6):
        raise AttestationError(
            f"the smaller model's logits differ by {worst:.3g} (the largest is {scale:.3g})",
            where=where,
            expected="those of the model whose units give nothing",
            remedy=UNSUPPORTED,
        )


def _writes(model: nn.Module, probe: Tensor) -> bool:
    """Return whether two tokens written with a cache have the logits that they have without one."""
    if not getattr(model, "can_generate", lambda: False)():
        return False
    try:
        made = model.generate(
            probe,
            attention_mask=torch.ones_like(probe),
            max_new_tokens=2,
            min_new_tokens=2,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_logits=True,
        )
        expected = run_window(model, made.sequences[:, :-1]).logits[:, -1].float()
    except Exception:  # from anywhere in a model's code
        return False
    apart, largest = (made.logits[-1].float() - expected).abs().max(), expected.abs().max()
    return bool(apart <= max(TOLERANCE, 8 * torch.finfo(model.dtype).eps) * largest)
