"""What criteria must know beside the weights: of the model as it is, on calibration windows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import is_transposed
from prunegrid.models.forward import device_of, run_window
from prunegrid.pruning.dense_statistics import dense_norms
from prunegrid.pruning.input_stats import is_finite


def look(
    model: nn.Module, linears: Mapping[str, nn.Module], tokens: Tensor | None, needs: str
) -> Mapping[str, Tensor | None]:
    """Return full linear name → what a criterion needs to know of it.

    Args:
        tokens: calibration windows, int64 [samples, length]; None where nothing is needed.
        needs: "nothing", "input_norms" or "gradients".
    """
    if needs == "nothing":
        return dict.fromkeys(linears)
    return (
        dense_norms(model, tokens) if needs == "input_norms" else gradients(model, linears, tokens)
    )


def gradients(
    model: nn.Module, linears: Mapping[str, nn.Module], tokens: Tensor
) -> dict[str, Tensor]:
    """Return full linear name → gradient of the mean loss, float32 [d_out, d_in].

    The loss is the cross-entropy of each window's next tokens, its mean over all windows; sums are
    held in float32 whatever the model's dtype.

    Args:
        model: in eval mode; its weights are not changed.

    Raises:
        PrunegridError: a gradient is not finite.
    """
    wanted = {name: module.weight for name, module in linears.items()}
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    model.requires_grad_(False)
    sums = {n: torch.zeros(w.shape, device=w.device) for n, w in wanted.items()}

    def add(name: str):
        def collect(weight: Tensor) -> None:
            sums[name].add_(weight.grad.float(), alpha=1 / len(tokens))
            weight.grad = None

        return collect

    handles = []
    for name, weight in wanted.items():
        weight.requires_grad_(True)
        handles.append(weight.register_post_accumulate_grad_hook(add(name)))
    try:
        with torch.enable_grad():
            for window in tqdm(tokens, desc="gradients", unit="window", disable=None):
                window = window.to(device_of(model))
                logits = run_window(model, window[None]).logits[0, :-1]
                cross_entropy(logits.float(), window[1:]).backward()
    finally:
        for handle in handles:
            handle.remove()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(before[name])
    for name, value in sums.items():
        if not is_finite(value):
            raise PrunegridError(
                "the gradient of the calibration loss holds NaN or infinity",
                where=name,
                remedy="the model is broken or its dtype too narrow: load it in float32",
            )
        if is_transposed(linears[name]):
            sums[name] = value.t()
    return sums
