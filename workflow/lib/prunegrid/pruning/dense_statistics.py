"""Statistics of a dense model's linears on calibration windows: input norms, and Hessians on disk.

Hessians are stored in one file a block, each distinct input once, with its norms, means and
variances. A Hessian [d, d] is stored as the panels of its lower triangle, rows `start` to `start +
PANEL` up to column `start + PANEL`, float32: about half of it. It is symmetric to the bit
(`prunegrid.pruning.input_stats`), so what is read is what was measured.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import Blocks, find_blocks
from prunegrid.models.forward import device_of, run_window
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.pruning.holding import WHOLE, Holding, evaluating
from prunegrid.pruning.input_stats import NO_TWINS, PANEL, InputStats, Twins, collect
from prunegrid.pruning.replay import Replay

log = logging.getLogger(__name__)

OUTSIDE = "outside"


def stats_in_model(
    model: nn.Module,
    linears: Mapping[str, nn.Module],
    tokens: Tensor,
    needs: str,
    twins: Twins = NO_TWINS,
) -> dict[str, InputStats]:
    """Return full linear name → statistics of its inputs in the model as it is, held whole.

    Args:
        tokens: int64 [samples, length].
        needs: see `prunegrid.pruning.input_stats.Accumulator`.
        twins: see `collect`.

    Raises:
        PrunegridError: activations hold NaN or infinity.
    """
    device = device_of(model)
    samples = tqdm(range(len(tokens)), desc="calibrate", disable=None)
    return collect(
        linears,
        needs,
        device,
        samples,
        lambda s: run_window(model, tokens[s][None].to(device)),
        twins=twins,
    )


def _measure_by_block(
    model: nn.Module,
    blocks: Blocks,
    tokens: Tensor,
    needs: str,
    holding: Holding,
    take: Callable[[int, dict[str, InputStats]], None],
) -> None:
    """Call `take` with each block's index and statistics, which nothing else holds."""
    replay = Replay(model, blocks, tokens, holding.storage)
    for index in tqdm(range(len(blocks.names)), desc="calibrate", unit="block", disable=None):
        with holding.resident(index):
            take(index, replay.dense_stats(index, needs))


def dense_norms(model: nn.Module, tokens: Tensor, holding: Holding = WHOLE) -> dict[str, Tensor]:
    """Return the norms of `dense_norm_stats`: full linear name → float32 [d_in]."""
    return {n: s.input_norms for n, s in dense_norm_stats(model, tokens, holding).items()}


@torch.no_grad()
def dense_norm_stats(
    model: nn.Module, tokens: Tensor, holding: Holding = WHOLE
) -> dict[str, InputStats]:
    """Return full linear name → tokens and norms of `model` as is.

    Norms are the mean of x_j² over all tokens that reach a linear, float32 [d_in] on the CPU.

    Linears that no token reaches are left out, and logged.

    Args:
        tokens: int64 [samples, length].
        holding: how the model is held; a block at a time, all samples pass each block in turn.

    Raises:
        PrunegridError: activations hold NaN or infinity.
    """
    blocks = find_blocks(model)
    norms: dict[str, InputStats] = {}

    def take(_index: int, stats: Mapping[str, InputStats]) -> None:
        # Clones: linears that share an input share its norms, and files hold no shared memory.
        for name, inputs in stats.items():
            norms[name] = InputStats(inputs.tokens, inputs.input_norms.cpu().clone())

    with evaluating(model):
        if holding.whole:
            linears = blocks.all_linears()
            take(0, stats_in_model(model, linears, tokens, "input_norms", blocks.twins))
        else:
            _measure_by_block(model, blocks, tokens, "input_norms", holding, take)
    for name in blocks.all_linears().keys() - norms.keys():
        log.warning("%s: no calibration sample reaches the linear", name)
    return norms


def write_norms(stats: Mapping[str, InputStats], path: Path, tokens: int) -> None:
    """Write norms to a file, and for each linear that not all `tokens` reach how many did."""
    few = {name: inputs.tokens for name, inputs in stats.items() if inputs.tokens < tokens}
    norms = {name: inputs.input_norms for name, inputs in stats.items()}
    save_file(norms, path, {"tokens": json.dumps(few)} if few else None)


def read_norms(path: Path) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return full linear name → norms, and → tokens of those that not all tokens reached."""
    with safe_open(path, framework="pt") as handle:
        few = json.loads((handle.metadata() or {}).get("tokens", "{}"))
        return {name: handle.get_tensor(name) for name in handle.keys()}, few  # noqa: SIM118


@torch.no_grad()
def write_hessians(
    model: nn.Module,
    tokens: Tensor,
    out: Path,
    *,
    extent: Extent = BLOCKS_ONLY,
    holding: Holding = WHOLE,
) -> int:
    """Write the Hessians of a dense model into a folder; return how many linears can have one.

    Linears that no token reaches have none.

    Args:
        model: it is not changed.
        tokens: calibration windows, int64 [samples, length].
        extent: names linears outside the blocks that are measured too.

    Raises:
        PrunegridError: activations hold NaN or infinity.
    """
    blocks = find_blocks(model, include=extent.include)
    take, needs = functools.partial(write, out=out), "hessian_and_moments"
    with evaluating(model):
        if blocks.outside:
            write(
                OUTSIDE, stats_in_model(model, blocks.outside, tokens, "hessian_and_moments"), out
            )
        _measure_by_block(model, blocks, tokens, needs, holding, take)
    return sum(map(len, blocks.groups().values()))


def write(name: int | str, stats: Mapping[str, InputStats], out: Path) -> None:
    """Write the statistics of some linears to a file.

    Args:
        name: a block's index, or OUTSIDE.
        stats: full linear name → statistics, all of them; a shared object is written once.
    """
    places: dict[int, int] = {}
    tensors: dict[str, Tensor] = {}
    linears: dict[str, int] = {}
    for linear, inputs in stats.items():
        place = linears[linear] = places.setdefault(id(inputs), len(places))
        if f"norms.{place}" not in tensors:
            tensors[f"norms.{place}"] = inputs.input_norms.cpu()
            tensors[f"means.{place}"] = inputs.input_means.cpu()
            tensors[f"variances.{place}"] = inputs.input_variances.cpu()
            tensors[f"hessian.{place}"] = _panels(inputs.hessian).cpu()
            tensors[f"tokens.{place}"] = torch.tensor(inputs.tokens)
    save_file(tensors, out / f"{name}.safetensors", {"linears": json.dumps(linears)})


def _panels(hessian: Tensor) -> Tensor:
    """Return the panels of the lower triangle of [d, d], one after the other."""
    starts = range(0, len(hessian), PANEL)
    return torch.cat([hessian[s : s + PANEL, : s + PANEL].reshape(-1) for s in starts])


def _whole(panels: Tensor, width: int) -> Tensor:
    """Return the Hessian [width, width] of its panels."""
    hessian = panels.new_empty(width, width)
    place = 0
    for start in range(0, width, PANEL):
        end = min(start + PANEL, width)
        size = (end - start) * end
        rows = panels[place : place + size].reshape(end - start, end)
        hessian[start:end, :end] = rows
        hessian[:start, start:end] = rows[:, :start].t()
        place += size
    return hessian


class StoredHessians:
    """Reads the Hessians of an artifact's folder onto a device."""

    def __init__(self, folder: Path, device: str = "cpu") -> None:
        self._folder, self._device = Path(folder), device

    def block(self, name: int | str, hessian: bool = True) -> dict[str, InputStats]:
        """Return full linear name → statistics of a block; linears of one input share the object.

        Args:
            name: a block's index, or OUTSIDE.
            hessian: False reads all but the Hessians.

        Raises:
            PrunegridError: the block was not measured.
        """
        path = self._folder / f"{name}.safetensors"
        if not path.exists():
            raise PrunegridError(
                "there are no Hessians of these linears", where=str(path), expected="a file a block"
            )
        with safe_open(path, framework="pt", device=self._device) as handle:

            @functools.cache
            def stats(place: int) -> InputStats:
                norms = handle.get_tensor(f"norms.{place}")
                tokens = int(handle.get_tensor(f"tokens.{place}"))
                moments = [handle.get_tensor(f"{kind}.{place}") for kind in ("means", "variances")]
                if not hessian:
                    return InputStats(tokens, norms, None, *moments)
                panels = handle.get_tensor(f"hessian.{place}")
                return InputStats(tokens, norms, _whole(panels, len(norms)), *moments)

            linears = json.loads(handle.metadata()["linears"])
            return {linear: stats(place) for linear, place in linears.items()}
