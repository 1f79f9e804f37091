"""One pass of a dense model that measures the Hessians of all its linears, block by block."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.models.blocks import find_blocks
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.pruning.dense_statistics import dense_stats
from prunegrid.pruning.model_access import WHOLE, Holding
from prunegrid.pruning.outside_blocks import stats_outside
from prunegrid.pruning.replay import Replay
from prunegrid.pruning.stored_hessians import OUTSIDE, write


@torch.no_grad()
def measure(
    model: nn.Module,
    tokens: Tensor,
    out: Path,
    *,
    extent: Extent = BLOCKS_ONLY,
    holding: Holding = WHOLE,
) -> int:
    """Write the Hessians of a dense model; return how many linears they are of.

    Args:
        model: on its device, in eval mode; it is not changed.
        tokens: calibration windows, int64 [samples, length].
        out: the folder to write into.
        extent: names linears outside the blocks that are measured too.
        holding: how the model is held in memory.

    Raises:
        PrunegridError: activations hold NaN or infinity, or a linear is not reached.
    """
    blocks = find_blocks(model, include=extent.include)
    count = 0
    if blocks.outside:
        count += write(stats_outside(model, blocks.outside, tokens, "hessian"), out, OUTSIDE)
    replay = Replay(model, blocks, tokens, holding.storage)
    for index in tqdm(range(len(blocks.names)), desc="hessians", unit="block", disable=None):
        with holding.resident(index):
            count += write(dense_stats(replay, index, "hessian"), out, str(index))
    return count
