"""Stage `prune`: a checkpoint with its linears pruned, as a plain folder, and a report of each.

Parents: weights, and calibration for methods that need inputs. Out: the model folder and
`prune.json` {linear: {shape, zeros, sparsity, and the method's facts}}. For pattern structured see
`prunegrid.pruning.structured.stage`.
"""

from __future__ import annotations

import importlib
import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.model_family import CRITERIA
from prunegrid.common.plugins import PARTS
from prunegrid.models import checkpoint, loading
from prunegrid.models.prunable import Extent
from prunegrid.pruning import offload
from prunegrid.pruning.chosen_masks import ChosenMasks
from prunegrid.pruning.coverage import left_dense, settled
from prunegrid.pruning.dense_statistics import StoredHessians, read_norms
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe

PACKAGES = ("plain weights",)
COMPUTES = True
BYTES_A_PARAMETER = 9.5
BY_BLOCK = True

log = logging.getLogger(__name__)

# Keys of the recipe and of the step itself; all others are the method's own.
_OF_RECIPE = (
    *("method", "pattern", "sparsity", "scope", "allow_unprunable"),
    *(key for part in PARTS for key in (part, f"{part}_settings")),
)
_OF_STEP = {*_OF_RECIPE, "propagation", "seed", "include", "exclude", "biases"}


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: weights as measured after saving, and facts of the method and its inputs.

    Args:
        settings: {method, pattern, sparsity, scope, refine, refine_settings, update,
            update_settings, allocation, allocation_settings, propagation, include, exclude, biases,
            allow_unprunable, and the method's own}.
        parents: {"weights": a plain weights artifact, "calibration": of the same model,
            "hessians": of the same model, for propagation dense of recipes that need them,
            "mask": the same weights pruned by the same criterion, whose mask is taken on}.

    Raises:
        PrunegridError: weights or activations are not finite, a pattern does not fit a linear, a
            calibration is missing, too much would stay dense unasked, or counts did not come out.
    """
    if settings["pattern"] == "structured":
        loading.require_fit(parents["weights"], CRITERIA, settings["method"], job.where)
        # By name, as methods are: its code is in the keys of such steps alone.
        structured = importlib.import_module("prunegrid.pruning.structured.stage")
        return structured.run(settings, parents, out, job)
    recipe = _recipe_of(settings, job)
    propagation = settings.get("propagation", "sequential")
    checkpoint.require_plain(parents["weights"], job.where)
    inputs = {"propagation": propagation, **_calibrated(parents.get("calibration"))}
    parent = offload.open_dense(parents["weights"], job)
    recipe = replace(recipe, extent=recipe.extent.after(parent.record))
    recipe = settled(parent.model, recipe, inputs["norms"], inputs["tokens"])
    dense = left_dense(recipe.extent, parent.model)
    if "hessians" in parents:
        inputs["hessians"] = StoredHessians(parents["hessians"], job.device)
    if "mask" in parents:
        inputs["chosen"] = ChosenMasks(parents["mask"], recipe.extent.linears(parent.model))
    began = time.perf_counter()
    report, weights = prune_checkpoint(parent, recipe, out, inputs)
    seconds = round(time.perf_counter() - began, 3)
    file_io.write_json(out / "prune.json", report)
    _require_zeros(weights, report, job.where)
    require_pattern(weights, job.where)
    tokens = inputs["tokens"]
    return {
        "weights": weights,
        **_facts(recipe, propagation),
        "linears": len(report),
        "left_dense": {kind: shapes for kind, shapes in dense.items() if shapes},
        **_of_linears(report),
        **_experts(report, job.where),
        "samples": None if tokens is None else len(tokens),
        "length": None if tokens is None else tokens.shape[1],
        "prune_seconds": seconds,
    }


def _calibrated(folder: Path | None) -> dict[str, Any]:
    """Return what a calibration knows: {tokens, norms, reached}; tokens and norms None without."""
    if folder is None:
        return {"tokens": None, "norms": None}
    tokens = load_file(folder / "tokens.safetensors")["tokens"]
    norms, reached = read_norms(folder / "input_norms.safetensors")
    return {"tokens": tokens, "norms": norms, "reached": reached}


def _of_linears(report: dict[str, dict]) -> dict:
    """Return what the record says of all linears together, and of single ones that fell back."""
    return {
        "dead_weights_beyond": sum(facts.get("dead_beyond", 0) for facts in report.values()),
        "zeros_revived": sum(facts.get("revived", 0) for facts in report.values()),
        **_biases(report),
        "fallbacks": {n: f["fallbacks"] for n, f in report.items() if f.get("fallbacks")},
    }


def prune_checkpoint(
    parent: offload.Dense, recipe: Recipe, out: Path, inputs: dict
) -> tuple[dict, dict]:
    """Return the report and the WEIGHTS RECORD of the pruned model, written to `out`."""
    if parent.holding.whole:
        report = prune_model(parent.model, recipe, **inputs, holding=parent.holding)
        return report, checkpoint.write_plain(
            parent.model.to("cpu", parent.dtype),
            parent.tokenizer,
            out,
            pattern=recipe.pattern,
            extent=recipe.extent,
            spent=True,
        ).record
    shards = parent.writer(out, recipe.extent)
    report = prune_model(
        parent.model, recipe, **inputs, holding=parent.holding, done=shards.add_block
    )
    return report, shards.finish(recipe.pattern)


def _recipe_of(settings: dict, job) -> Recipe:
    """Return the recipe of a step's settings."""
    named = {key: settings[key] for key in _OF_RECIPE if key in settings}
    own = {key: value for key, value in settings.items() if key not in _OF_STEP}
    recipe = Recipe(**named, settings=own, extent=Extent.of(settings))
    return replace(recipe, seed=job.seed("prune")) if recipe.module.DRAWS else recipe


def _facts(recipe: Recipe, propagation: str) -> dict:
    unstructured = recipe.pattern == "unstructured"
    return {
        "method": recipe.method,
        "pattern": recipe.pattern,
        "sparsity": recipe.sparsity,
        "scope": (recipe.scope or recipe.module.SCOPE) if unstructured else None,
        "refine": recipe.refine,
        "update": recipe.update,
        "allocation": recipe.allocation if unstructured else None,
        "needs": recipe.needs,
        "propagation": propagation if recipe.needs != "nothing" else None,
    }


def _biases(report: dict[str, dict]) -> dict:
    """Return {biases_changed: how many entries of biases were shifted}; {} if none can be."""
    changed = [facts["biases_changed"] for facts in report.values() if "biases_changed" in facts]
    return {"biases_changed": sum(changed)} if changed else {}


def _experts(report: dict[str, dict], where: str) -> dict:
    """Return {experts: {unreached, few}}, each linear → tokens; {} if no expert's are known.

    `few` are fewer tokens than the linear has inputs: its Hessian is singular without dampening.
    """
    known = {n: f for n, f in report.items() if f.get("tokens") is not None}
    if not known:
        return {}
    unreached = {n: 0 for n, facts in known.items() if not facts["tokens"]}
    few = {n: f["tokens"] for n, f in known.items() if 0 < f["tokens"] < f["shape"][1]}
    for message, names in (("no token", unreached), ("fewer tokens than inputs", few)):
        if names:
            log.warning(
                "%s: %s reached %d of %d matrices of experts, such as %s",
                *(where, message, len(names), len(known), min(names)),
            )
    return {"experts": {"unreached": unreached, "few": few}}


def require_pattern(weights: dict, where: str) -> None:
    """Check that every group of an N:M pattern keeps at most N of M.

    Raises:
        AttestationError: some keep more: the pattern is claimed, but not there.
    """
    if weights["nm_valid"] is False:
        raise AttestationError(
            f"groups of the pruned weights keep more than {weights['pattern']} says",
            where=where,
            expected=f"the pattern {weights['pattern']} in every linear",
            remedy="the method broke its own pattern: please report it",
        )


def _require_zeros(weights: dict, report: dict[str, dict], where: str) -> None:
    """Check that the zeros counted in the saved files are the ones that pruning made."""
    made = sum(facts["zeros"] for facts in report.values())
    if weights["prunable_zeros"] != made:
        raise PrunegridError(
            f"the saved weights hold {weights['prunable_zeros']} zeros",
            where=where,
            expected=f"{made}, as they had in memory",
            remedy="the saved model is not the pruned one: please report it",
        )
