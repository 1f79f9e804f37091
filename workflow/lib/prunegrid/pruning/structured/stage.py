"""The step `prune` with pattern structured: a checkpoint without some of its units, smaller.

Out: the model folder, as plain transformers loads it, and `prune.json`, the units every block lost.

Before anything is computed a model of the smaller shapes is built and run, some units left out: it
must be what would stay, and compute what the full model does if those units give nothing. Which
blocks go is known after their scores, so these are tried again, before weights are touched. After
saving, the folder's own outputs are compared in the same way.

The model is held whole, whatever `memory.model` says; hidden states follow `memory`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from prunegrid.common import file_io, precision
from prunegrid.common.errors import PrunegridError
from prunegrid.models import checkpoint
from prunegrid.models.loading import compute_in
from prunegrid.pruning.block_calls import PROBE_TOKENS
from prunegrid.pruning.holding import Storage
from prunegrid.pruning.structured import criterion_module, output_correction, shapes
from prunegrid.pruning.structured.config_search import smaller_config
from prunegrid.pruning.structured.equivalence import (
    outputs,
    require_equal,
    require_removable,
    silenced,
)
from prunegrid.pruning.structured.removal_plan import choose_blocks, counts_for, removed_from
from prunegrid.pruning.structured.unit_groups import Experts
from prunegrid.pruning.structured.unit_scores import (
    lowest_blocks_first,
    lowest_units,
    score_units,
)
from prunegrid.pruning.structured.units import Units, find_units

log = logging.getLogger(__name__)

# Widths that are no multiple of it make kernels slow.
EVEN = 8


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
    compute_in(model, precision.of_job(job))
    tokens = _tokens(settings, parents, job.where)
    probe = tokens[:1, :PROBE_TOKENS] if tokens is not None else torch.arange(PROBE_TOKENS)[None]
    units = find_units(model, settings["units"], probe)
    counts = counts_for(units, parent.record, settings, job.where)
    _tell_uneven(units, counts, job.where)
    removed, scores, must_stay = _chosen(units, counts, settings, tokens, probe, job)
    story: dict[str, dict] = {}
    if settings["update"] == "least_squares":
        own = output_correction.SETTINGS | settings["update_settings"]
        story = output_correction.correct_model(units, removed, tokens, Storage.of(job), **own)
    model.to("cpu", dtype)
    weights = _write_smaller(units, removed, parent, out, probe, job.where)
    missed = _unreached(units.of("experts"), scores, job.where) if tokens is not None else {}
    report = {"counts": counts, "blocks": _report(units, removed, scores)}
    report |= {"corrected": story, "must_stay": must_stay}
    file_io.write_json(out / "prune.json", report)
    return {
        "weights": weights,
        **{key: settings[key] for key in ("method", "pattern", "sparsity", "units", "update")},
        "removed": counts,
        "units_before": {name: kind.units for name, kind in units.kinds().items()},
        "zeros_revived": 0,
        "dead_weights_beyond": 0,
        "fallbacks": {n: f["fallbacks"] for n, f in story.items() if f["fallbacks"]},
        **missed,
        "samples": None if tokens is None else len(tokens),
        "length": None if tokens is None else tokens.shape[1],
        "prune_seconds": round(time.perf_counter() - began, 3),
    }


def _chosen(
    units: Units,
    counts: Mapping[str, int],
    settings: Mapping,
    tokens: Tensor | None,
    probe: Tensor,
    job,
) -> tuple[dict, dict, dict[str, str]]:
    """Return (kind, block) → units that go, and scores; and block → why it must stay."""

    def check(removed: Mapping) -> None:
        require_removable(units, removed, probe, job.where)

    if "blocks" not in counts:
        check(shapes.first_units(units, counts))
        scores = score_units(units, settings, tokens, job)
        parts = max(group.parts for group in units.groups)
        return lowest_units(counts, scores, parts), scores, {}
    # That some choice of so many can go is known before the scores are computed.
    choose_blocks(units, range(len(units.blocks.names))[::-1], counts["blocks"], check)
    scores = score_units(units, settings, tokens, job)
    order = lowest_blocks_first(scores)
    removed, must_stay = choose_blocks(units, order, counts["blocks"], check)
    for name, why in must_stay.items():
        log.warning("%s stays, and the block of the next score goes: %s", name, why)
    return removed, scores, must_stay


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


def _write_smaller(
    units: Units,
    removed: Mapping,
    parent: checkpoint.Checkpoint,
    out: Path,
    probe: Tensor,
    where: str,
) -> dict:
    """Write the smaller model, compare it with the one whose units are zero; return its record."""
    kept, experts = shapes.kept_of(units, removed), units.of("experts")
    saved = checkpoint.write_plain(
        shapes.smaller_model(units, kept, smaller_config(units, kept)),
        parent.tokenizer,
        out,
        parent.record["pattern"],
        parent.record["adapter"],
        removed_from(parent.record, experts[0].units if experts else None),
        spent=True,
    )
    if saved.record["nm_valid"] is False:
        raise PrunegridError(
            f"without its units the weights do not keep the pattern {saved.record['pattern']}",
            where=where,
            remedy="remove units first, and prune to N:M after that",
        )
    with silenced(units, removed):  # in float32: the models are of no use after it
        expected = outputs(units.model.float(), probe)
    require_equal(outputs(saved.model.float(), probe), expected, where)
    return saved.record


def _tell_uneven(units: Units, counts: Mapping[str, int], where: str) -> None:
    """Warn of a width of the MLP that kernels are slow for."""
    if "mlp" in counts:
        width = units.kinds()["mlp"].units - counts["mlp"]
        if width % EVEN:
            log.warning(
                "%s: %d neurons stay, no multiple of %d, for which kernels are slow; `multiple` "
                "rounds to one",
                where,
                width,
                EVEN,
            )


def _unreached(groups: Sequence[Experts], scores: Mapping, where: str) -> dict[str, dict]:
    """Return {experts: {unreached: linear → 0}} of experts without a token; {} without experts."""
    missed: dict[str, int] = {}
    for group in groups:
        experts = scores[group.kind, group.block].isnan().nonzero().flatten().tolist()
        if experts:
            text = "%s: no token reached %d of %d experts of %s, so they stay: %s"
            log.warning(text, where, len(experts), group.units, group.block, experts)
        missed |= {name: 0 for expert in experts for name in group.members[expert]}
    return {"experts": {"unreached": missed}} if groups else {}


def _report(units: Units, removed: Mapping, scores: Mapping) -> dict[str, dict]:
    """Return {block: {kind: which units went and their scores}}; a block may have no units."""
    none = {"units": 0, "removed": 0, "indices": [], "score_removed": 0.0, "score": 0.0}
    kinds = {group.kind for group in units.groups}
    blocks = {name: {kind: none for kind in sorted(kinds)} for name in units.blocks.names}
    for group in units.groups:
        going, values = removed[group.kind, group.block], scores[group.kind, group.block]
        facts = {
            "units": group.units,
            "removed": len(going),
            "indices": going.tolist(),
            "score_removed": float(values[going].sum()),
            "score": float(values.nansum()),
        }
        if group.kind == "experts":
            facts["unreached"] = values.isnan().nonzero().flatten().tolist()
        blocks[group.block][group.kind] = facts
    return blocks
