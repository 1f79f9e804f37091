"""Statistics of a dense model's linears on calibration windows: input norms and Hessians."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.models.blocks import Blocks, find_blocks
from prunegrid.models.forward import device_of, run_window
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.pruning.input_stats import InputStats, collect
from prunegrid.pruning.model_access import WHOLE, Holding
from prunegrid.pruning.replay import Replay
from prunegrid.pruning.stored_hessians import OUTSIDE, write


def stats_in_model(
    model: nn.Module, linears: Mapping[str, nn.Module], tokens: Tensor, needs: str
) -> dict[str, InputStats]:
    """Return full linear name → statistics of its inputs in the model as it is, held whole.

    Args:
        tokens: int64 [samples, length].
        needs: "input_norms" or "hessian".

    Raises:
        PrunegridError: activations hold NaN or infinity, or a linear is not reached.
    """
    device = device_of(model)
    samples = tqdm(range(len(tokens)), desc="calibrate", disable=None)
    return collect(
        linears, needs, device, samples, lambda s: run_window(model, tokens[s][None].to(device))
    )


def _measure_by_block(
    model: nn.Module,
    blocks: Blocks,
    tokens: Tensor,
    needs: str,
    holding: Holding,
    take: Callable[[int, dict[str, InputStats]], None],
) -> None:
    """Give each block's index and statistics to `take`, which alone holds them."""
    replay = Replay(model, blocks, tokens, holding.storage)
    for index in tqdm(range(len(blocks.names)), desc="calibrate", unit="block", disable=None):
        with holding.resident(index):
            take(index, replay.dense_stats(index, needs))


@torch.no_grad()
def dense_norms(model: nn.Module, tokens: Tensor, holding: Holding = WHOLE) -> dict[str, Tensor]:
    """Return full linear name → float32 [d_in], the mean of x_j² over all tokens, of `model` as is.

    Args:
        model: on its device.
        tokens: int64 [samples, length].
        holding: how the model is held; a block at a time, all samples pass each block in turn.

    Raises:
        PrunegridError: activations hold NaN or infinity, or a linear is not reached.
    """
    blocks, training = find_blocks(model), model.training
    norms: dict[str, Tensor] = {}

    def take(_index: int, stats: Mapping[str, InputStats]) -> None:
        # Clones: linears that share an input share its norms, and files hold no shared memory.
        norms.update((name, inputs.input_norms.cpu().clone()) for name, inputs in stats.items())

    model.eval()
    try:
        if holding.whole:
            linears = {n: m for group in blocks.linears.values() for n, m in group.items()}
            take(0, stats_in_model(model, linears, tokens, "input_norms"))
        else:
            _measure_by_block(model, blocks, tokens, "input_norms", holding, take)
    finally:
        model.train(training)
    return norms


@torch.no_grad()
def write_hessians(
    model: nn.Module,
    tokens: Tensor,
    out: Path,
    *,
    extent: Extent = BLOCKS_ONLY,
    holding: Holding = WHOLE,
) -> int:
    """Write the Hessians of a dense model into a folder; return how many linears have one.

    Args:
        model: on its device, in eval mode; it is not changed.
        tokens: calibration windows, int64 [samples, length].
        extent: names linears outside the blocks that are measured too.
        holding: how the model is held in memory.

    Raises:
        PrunegridError: activations hold NaN or infinity, or a linear is not reached.
    """
    blocks = find_blocks(model, include=extent.include)
    counts: list[int] = []
    if blocks.outside:
        outside = blocks.outside
        counts.append(write(stats_in_model(model, outside, tokens, "hessian"), out, OUTSIDE))

    def take(index: int, stats: Mapping[str, InputStats]) -> None:
        counts.append(write(stats, out, str(index)))

    _measure_by_block(model, blocks, tokens, "hessian", holding, take)
    return sum(counts)
