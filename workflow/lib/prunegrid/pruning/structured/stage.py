"""The step `prune` with pattern structured: a checkpoint without some of its units, smaller.

Out: the model folder, as plain transformers loads it, and `prune.json`, the units every block lost.

Before anything is computed the smaller config is built and its shapes compared with what would
stay. After saving, the folder's own outputs are compared with those of the full model whose units
are zero, for what shapes cannot tell: a norm over all heads, heads that are mixed.

The model is held whole, whatever `memory.model` says; hidden states follow `memory`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import checkpoint
from prunegrid.models.blocks import oriented
from prunegrid.models.forward import final_states, run_window
from prunegrid.models.loading import compute_in
from prunegrid.pruning.block_calls import PROBE_TOKENS
from prunegrid.pruning.holding import Storage
from prunegrid.pruning.structured import criterion_module, output_correction, shapes
from prunegrid.pruning.structured.removal_plan import counts_for, removed_from
from prunegrid.pruning.structured.unit_scores import lowest_units, score_units
from prunegrid.pruning.structured.units import Units, find_units

log = logging.getLogger(__name__)

# Of the largest logit, in float32: sums of fewer terms round otherwise.
TOLERANCE = 1e-3


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: weights as measured after saving, what was removed, and facts.

    Args:
        settings: {method, pattern, sparsity, units, multiple, update, update_settings, and the
            criterion's own}.
        parents: {"weights": a plain weights artifact, "calibration": of the same tokenizer}.
        out: folder of the new artifact.
        job: gives the device, the scratch folder, and the seed to criteria that draw.

    Raises:
        PrunegridError: the architecture cannot lose such units, or not so many; a calibration is
            missing; weights or activations are not finite.
        AttestationError: the smaller model is not the full one with its units at zero.
    """
    checkpoint.require_plain(parents["weights"], job.where)
    began = time.perf_counter()
    parent = checkpoint.load(parents["weights"], job.device)
    model, dtype = parent.model, parent.model.dtype
    compute_in(model, job.compute_dtype)
    tokens = _tokens(settings, parents, job.where)
    probe = tokens[:1, :PROBE_TOKENS] if tokens is not None else torch.arange(PROBE_TOKENS)[None]
    units = find_units(model, settings["units"], probe)
    counts = counts_for(units, parent.record, settings, job.where)
    scores = score_units(units, settings, tokens, job)
    removed = lowest_units(counts, scores)
    story: dict[str, dict] = {}
    with torch.no_grad():
        if settings["update"] == "least_squares":
            own = output_correction.SETTINGS | settings["update_settings"]
            story = output_correction.correct_model(units, removed, tokens, Storage.of(job), **own)
        _zero_units(units, removed)
    model.to("cpu", dtype)
    weights = _write_smaller(units, removed, parent, out, probe, job.where)
    blocks = _report(units, removed, scores)
    report = {"counts": counts, "blocks": blocks, "corrected": story}
    file_io.write_json(out / "prune.json", report)
    return {
        "weights": weights,
        **{key: settings[key] for key in ("method", "pattern", "sparsity", "units", "update")},
        "removed": counts,
        "units_before": {name: kind.units for name, kind in units.kinds().items()},
        "zeros_revived": 0,
        "fallbacks": {n: f["fallbacks"] for n, f in story.items() if f["fallbacks"]},
        "samples": None if tokens is None else len(tokens),
        "length": None if tokens is None else tokens.shape[1],
        "prune_seconds": round(time.perf_counter() - began, 3),
    }


def _tokens(settings: Mapping, parents: Mapping[str, Path], where: str) -> Tensor | None:
    """Return the calibration windows, None where nothing needs them."""
    needs = criterion_module(settings["method"]).NEEDS
    if needs == "nothing" and settings["update"] != "least_squares":
        return None
    if "calibration" not in parents:
        raise PrunegridError(
            f"{settings['method']} with update {settings['update']} needs calibration samples",
            where=where,
            remedy="name a calibration in its prune profile",
        )
    return load_file(parents["calibration"] / "tokens.safetensors")["tokens"]


def _zero_units(units: Units, removed: Mapping) -> None:
    """Set to zero, in place, what units that go give to the linear that reads them."""
    linears = units.linears
    for group in units.groups:
        going = removed[group.kind, group.block]
        for name, width in group.columns.items():
            weight = oriented(linears[name])
            weight[:, group.indices(going, width).to(weight.device)] = 0


def _write_smaller(
    units: Units,
    removed: Mapping,
    parent: checkpoint.Checkpoint,
    out: Path,
    probe: Tensor,
    where: str,
) -> dict:
    """Write the smaller model, compare it with the one whose units are zero; return its record."""
    kept = {
        (group.kind, group.block): _others(group.units, removed[group.kind, group.block])
        for group in units.groups
    }
    saved = checkpoint.write_plain(
        shapes.smaller_model(units, kept),
        parent.tokenizer,
        out,
        parent.record["pattern"],
        parent.record["adapter"],
        removed_from(parent.record),
        spent=True,
    )
    if saved.record["nm_valid"] is False:
        raise PrunegridError(
            f"without its units the weights do not keep the pattern {saved.record['pattern']}",
            where=where,
            remedy="remove units first, and prune to N:M after that",
        )
    with _skipping(units, removed):
        expected = _logits(units.model, probe)
    _require_equal(_logits(saved.model, probe), expected, where)
    return saved.record


def _others(units: int, gone: Tensor) -> Tensor:
    stays = torch.ones(units, dtype=torch.bool)
    stays[gone] = False
    return stays.nonzero().flatten()


@torch.no_grad()
def _logits(model: nn.Module, probe: Tensor) -> Tensor:
    """Return the logits or states of some tokens, in float32 (the model is of no use after it)."""
    return final_states(run_window(model.float(), probe))


@contextlib.contextmanager
def _skipping(units: Units, removed: Mapping) -> Iterator[None]:
    """Let the blocks that go hand on what they are given, inside the context."""

    def hand_on(block: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    with contextlib.ExitStack() as hooks:
        for name, block in zip(units.blocks.names, units.blocks.modules, strict=True):
            if len(removed.get(("blocks", name), ())):
                hooks.callback(block.register_forward_hook(hand_on, with_kwargs=True).remove)
        yield


def _require_equal(logits: Tensor, expected: Tensor, where: str) -> None:
    worst, scale = float((logits - expected).abs().max()), float(expected.abs().max())
    log.info("%s: logits differ from the model with zeros by %.2g of %.2g", where, worst, scale)
    if not worst <= TOLERANCE * max(scale, 1e-6):
        raise AttestationError(
            f"the smaller model's logits differ by {worst:.3g} (the largest is {scale:.3g})",
            where=where,
            expected="those of the model whose units are zero",
            remedy="units of this architecture are not independent: it is not supported for these "
            "`units`",
        )


def _report(units: Units, removed: Mapping, scores: Mapping) -> dict[str, dict]:
    """Return {block: {kind: which units went and their scores}}."""
    blocks: dict[str, dict] = {name: {} for name in units.blocks.names}
    for group in units.groups:
        going, values = removed[group.kind, group.block], scores[group.kind, group.block]
        blocks[group.block][group.kind] = {
            "units": group.units,
            "removed": len(going),
            "indices": going.tolist(),
            "score_removed": float(values[going].sum()),
            "score": float(values.sum()),
        }
    return blocks
