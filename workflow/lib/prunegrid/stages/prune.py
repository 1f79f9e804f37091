"""Stage `prune`: a checkpoint with its linears pruned, as a plain folder, and a report of each.

Parents: weights, and calibration for methods that need inputs. Out: the model folder and
`prune.json` {linear: {shape, zeros, sparsity, and the method's facts}}.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from safetensors.torch import load_file

from prunegrid import artifacts, checkpoint
from prunegrid.errors import PrunegridError
from prunegrid.patterns import Pattern, parse_pattern
from prunegrid.pruning import method_module
from prunegrid.pruning.engine import prune_model

log = logging.getLogger(__name__)

# Keys of the step itself; all others are the method's own.
_OF_STEP = {"method", "pattern", "sparsity", "scope", "propagation", "seed"}


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: weights as measured after saving, and facts of the method and its inputs.

    Args:
        settings: {method, pattern, sparsity, scope, propagation, and the method's own}.
        parents: {"weights": a plain weights artifact, "calibration": of the same model}.
        out: folder of the new artifact.
        job: gives the device, and the seed to methods that draw.

    Raises:
        PrunegridError: weights or activations are not finite, a pattern does not fit a linear, a
            calibration is missing, or the counts did not come out.
    """
    name = settings["method"]
    method = method_module(name)
    scope = settings.get("scope") or method.SCOPE
    pattern = parse_pattern(settings["pattern"], settings.get("sparsity"), scope)
    propagation = settings.get("propagation", "sequential")
    _require_plain(parents["weights"], job.where)
    tokens, norms = _inputs(method.NEEDS, propagation, parents, name, job.where)
    loaded = checkpoint.load(parents["weights"], job.device)
    began = time.perf_counter()
    report = prune_model(
        loaded.model,
        name,
        pattern,
        tokens=tokens,
        norms=norms,
        propagation=propagation,
        settings={key: value for key, value in settings.items() if key not in _OF_STEP},
        seed=job.seed("prune") if method.DRAWS else 0,
    )
    seconds = time.perf_counter() - began
    artifacts.write_json(out / "prune.json", report)
    weights = checkpoint.save_plain(
        loaded.model.to("cpu"), loaded.tokenizer, out, pattern=settings["pattern"]
    )
    _require_zeros(weights, report, job.where)
    return {
        "weights": weights,
        **_facts(settings, pattern, propagation if method.NEEDS != "nothing" else None),
        "needs": method.NEEDS,
        "samples": None if tokens is None else len(tokens),
        "length": None if tokens is None else tokens.shape[1],
        "linears": len(report),
        "fallbacks": {
            linear: facts["fallbacks"] for linear, facts in report.items() if facts.get("fallbacks")
        },
        "prune_seconds": round(seconds, 3),
    }


def _require_plain(weights: Path, where: str) -> None:
    if checkpoint.is_quantized(weights):
        raise PrunegridError(
            "quantized weights with an adapter cannot be pruned",
            where=where,
            remedy="prune first and run qlora afterwards, or fine-tune with lora or full",
        )


def _inputs(needs: str, propagation: str, parents: dict[str, Path], name: str, where: str):
    """Return (tokens, norms), each None where the method and its propagation do not use it."""
    if needs == "nothing":
        return None, None
    if "calibration" not in parents:
        raise PrunegridError(
            f"method {name} needs calibration samples",
            where=where,
            remedy="name a calibration in its prune profile",
        )
    folder = parents["calibration"]
    if propagation == "dense":
        return None, load_file(folder / "input_norms.safetensors")
    return load_file(folder / "tokens.safetensors")["tokens"], None


def _facts(settings: dict, pattern: Pattern, propagation: str | None) -> dict:
    return {
        "method": settings["method"],
        "pattern": settings["pattern"],
        "sparsity": settings.get("sparsity"),
        "scope": getattr(pattern, "scope", None),
        "propagation": propagation,
    }


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
