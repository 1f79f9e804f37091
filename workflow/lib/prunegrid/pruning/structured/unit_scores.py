"""Scores of units by a criterion, and the lowest: of each layer, of blocks in the model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import first_tensor, is_transposed, oriented
from prunegrid.models.experts import ExpertLinear, weight_of
from prunegrid.models.forward import device_of, run_window
from prunegrid.pruning.block_calls import split_call
from prunegrid.pruning.criteria import generator_of
from prunegrid.pruning.dense_statistics import dense_norms
from prunegrid.pruning.input_stats import activations_error, is_finite
from prunegrid.pruning.structured import criterion_module
from prunegrid.pruning.structured.expert_scores import routed_scores
from prunegrid.pruning.structured.unit_groups import lowest
from prunegrid.pruning.structured.units import Units


def score_units(
    units: Units, settings: Mapping, tokens: Tensor | None, job
) -> dict[tuple[str, str], Tensor]:
    """Return (kind, block) → the scores of its units, float64 [units].

    Args:
        settings: {method, and the criterion's own}.
        tokens: calibration windows, int64 [samples, length]; None where nothing is needed.
        job: gives the seed to criteria that draw.
    """
    module, linears = criterion_module(settings["method"]), units.linears
    own = {key: settings[key] for key in module.SETTINGS}
    if module.NEEDS == "hidden_states":
        return score_blocks(units, functools.partial(module.importance_of_block, **own), tokens)
    if module.NEEDS == "expert_outputs":
        importance = functools.partial(module.importance, **own)
        return routed_scores(units.model, units.of("experts"), importance, tokens)
    if module.NEEDS == "input_norms":
        norms = dense_norms(units.model, tokens)
        # A linear that no token reaches gives nothing.
        seen = {n: norms.get(n, torch.zeros(oriented(m).shape[1])) for n, m in linears.items()}
    elif module.NEEDS == "gradients":
        seen = gradients(units.model, linears, tokens)
    else:
        seen = dict.fromkeys(linears)

    def importance(name: str) -> Tensor:
        drawing = {"generator": generator_of(job.seed("prune"), name)} if module.DRAWS else {}
        return module.importance(oriented(linears[name]), seen[name], **drawing, **own)

    scores: dict[tuple[str, str], Tensor] = {}
    for block in units.blocks.names:
        groups = [group for group in units.groups if group.block == block]
        weights = {name: importance(name) for group in groups for name in group.linears}
        for group in groups:
            scores[group.kind, block] = group.scores(weights)
    return scores


@torch.no_grad()
def score_blocks(
    units: Units, importance: Callable[[Tensor, Tensor], Tensor], tokens: Tensor
) -> dict[tuple[str, str], Tensor]:
    """Return ("blocks", block) → its mean importance over all tokens, float64 [1].

    Args:
        importance: returns each token's, float64 [tokens], of the hidden states [tokens, d] that
            enter and leave a block.
        tokens: calibration windows, int64 [samples, length].

    Raises:
        PrunegridError: hidden states hold NaN or infinity.
    """
    names, seen = units.blocks.names, [[0.0, 0] for _ in units.blocks.names]
    entering: dict[int, Tensor] = {}

    def enter(index: int, args: tuple, kwargs: dict) -> None:
        # A clone, in case that the block goes on in place.
        entering[index] = split_call(args, kwargs)[0].clone()

    def leave(index: int, output: Any) -> None:
        states = [h.flatten(0, -2) for h in (entering.pop(index), first_tensor(output))]
        found = importance(*states)
        if not is_finite(found):
            raise activations_error(names[index])
        seen[index][0] += float(found.sum())
        seen[index][1] += len(found)

    with contextlib.ExitStack() as hooks:
        for index, block in enumerate(units.blocks.modules):
            pre = block.register_forward_pre_hook(
                lambda _m, args, kwargs, i=index: enter(i, args, kwargs), with_kwargs=True
            )
            post = block.register_forward_hook(lambda _m, _a, output, i=index: leave(i, output))
            hooks.callback(pre.remove)
            hooks.callback(post.remove)
        for window in tqdm(tokens, desc="influence", unit="window", disable=None):
            run_window(units.model, window[None].to(device_of(units.model)))
    return {
        ("blocks", name): torch.tensor([total / max(count, 1)], dtype=torch.float64)
        for name, (total, count) in zip(names, seen, strict=True)
    }


def lowest_units(
    counts: Mapping[str, int], scores: Mapping[tuple[str, str], Tensor], parts: int = 1
) -> dict[tuple[str, str], Tensor]:
    """Return (kind, block) → int64 indices of the units of the lowest scores in a block, which go.

    Args:
        counts: kind → how many go, of each layer; blocks are not chosen here.
        scores: NaN where an expert was reached by no token, which has none and stays.
        parts: see `unit_groups.Group`.

    Raises:
        PrunegridError: too few units have a score.
    """
    removed = {}
    for (kind, block), values in scores.items():
        if kind != "blocks":
            removed[kind, block] = lowest(values, counts[kind], parts)
            if values[removed[kind, block]].isnan().any():
                raise PrunegridError(
                    f"{int(values.isnan().sum())} of {len(values)} experts were reached by no "
                    f"calibration token, and {counts[kind]} others are to go",
                    where=block,
                    expected="experts with a score, as those without one stay",
                    remedy="use more calibration samples, or lower `sparsity`",
                )
    return removed


def lowest_blocks_first(scores: Mapping[tuple[str, str], Tensor]) -> list[int]:
    """Return the places of the blocks, those of the lowest scores first, then the first."""
    totals = torch.cat([values for (kind, _), values in scores.items() if kind == "blocks"])
    return totals.argsort(stable=True).tolist()


def gradients(
    model: nn.Module, linears: Mapping[str, nn.Module], tokens: Tensor
) -> dict[str, Tensor]:
    """Return full linear name → gradient of the mean loss, float32 [d_out, d_in].

    The loss is the cross-entropy of each window's next tokens, its mean over all windows; sums are
    held in float32 whatever the model's dtype.

    Args:
        model: in eval mode; its weights are not changed.
        tokens: int64 [samples, length].

    Raises:
        PrunegridError: a gradient is not finite.
    """
    weights = {id(weight_of(linear)): weight_of(linear) for linear in linears.values()}
    sums = {key: torch.zeros(w.shape, device=w.device) for key, w in weights.items()}

    def add(key: int):
        def collect(weight: Tensor) -> None:
            sums[key].add_(weight.grad.float(), alpha=1 / len(tokens))
            weight.grad = None

        return collect

    with contextlib.ExitStack() as restore, torch.enable_grad():
        for parameter in model.parameters():
            restore.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        for key, weight in weights.items():
            weight.requires_grad_(True)
            restore.callback(weight.register_post_accumulate_grad_hook(add(key)).remove)
        for window in tqdm(tokens, desc="gradients", unit="window", disable=None):
            window = window.to(device_of(model))
            logits = run_window(model, window[None]).logits[0, :-1]
            cross_entropy(logits.float(), window[1:]).backward()
    found = {}
    for name, linear in linears.items():
        value = sums[id(weight_of(linear))]
        value = value[linear.index] if isinstance(linear, ExpertLinear) else value
        if not is_finite(value):
            raise PrunegridError(
                "the gradient of the calibration loss holds NaN or infinity",
                where=name,
                remedy="the model is broken or its dtype too narrow: load it in float32",
            )
        found[name] = value.t() if is_transposed(linear) else value
    return found
