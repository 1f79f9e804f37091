"""One row a cell, read from the manifests of its artifacts and nothing else."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy
import pandas

from prunegrid.artifacts.artifact_folder import read_manifest
from prunegrid.artifacts.job_status import has_failed, read_state, with_label
from prunegrid.artifacts.parts import folder_of, record_of
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.file_io import canonical_json
from prunegrid.tables import benchmarks, speed
from prunegrid.tables.intervals import corpus_interval, interval, levels, resampled
from prunegrid.tables.schema import COLUMNS

# Which zeros a step promises to keep (`prunegrid.models.zero_masks`), the weakest first.
PROMISES = ("none", "base", "all")
MERGE_LOSSES = ("merge_loss_before", "merge_loss_after")
WEIGHT_FACTS = (
    "adapter",
    "sparsity_prunable",
    "nm_valid",
    "sparsity_effective",
    "sparsity_model",
    "removed_prunable",
    "removed_total",
    "parameters",
    "nonzero_parameters",
    "file_bytes",
)


class NotMade(PrunegridError):
    """A step of a cell was not reached: the run was interrupted, or goes on."""


def status_of(error: PrunegridError) -> dict[str, str]:
    """Return the status and the reason of a cell that has no scores."""
    return {"status": "missing" if isinstance(error, NotMade) else "failed", "reason": str(error)}


def cell_rows(plan: dict[str, Any], cell: dict[str, Any]) -> tuple[dict, list[dict]]:
    """Return the row of one cell and its long rows; a cell without scores has the reason."""
    base = {column.name: None for column in COLUMNS}
    base |= {"study": plan["study"], **cell["columns"]}
    try:
        manifests = manifests_of(cell)
        row = base | measured_values(cell, manifests)
        long = _scores(plan, cell, manifests, row)
    except PrunegridError as error:
        return base | status_of(error), []
    for split in cell["texts"]:
        row[f"{split}_n"] = manifests[f"predictions:{split}"]["record"]["rows"]
    for entry in long:
        row.setdefault(f"{entry['split']}_n", entry["n"])
        row[f"{entry['split']}_{entry['metric']}"] = entry["value"]
        if entry.get("stderr") is not None:
            row[f"{entry['split']}_{entry['metric']}_stderr"] = entry["stderr"]
    return row | {"status": "ok", "reason": None}, long


def baseline_rows(plan: dict[str, Any], baseline: dict[str, Any]) -> list[dict]:
    """Return the long rows of one control on one split.

    Raises:
        PrunegridError: its artifact is missing or broken.
    """
    scores = open_artifact(baseline["scores"])
    about = {"study": plan["study"], "kind": baseline["role"], "name": baseline["baseline"]}
    about |= {"dataset": baseline["dataset"]}
    return text_rows(plan, about, baseline["split"], baseline["scores"], scores)


def open_artifact(ref: dict[str, str]) -> dict:
    """Return the manifest of an artifact, or raise with the reason for its absence."""
    if not Path(ref["path"], "manifest.json").exists():
        state = read_state(Path(ref["status"])) or {}
        if state.get("state") == "failed":
            raise PrunegridError(with_label(ref["label"], state["reason"]))
        if state.get("state") == "running":  # on another machine, where it cannot be looked after
            raise PrunegridError(
                f"was not made, and its job on {state.get('host')} has not said why",
                where=ref["label"],
                remedy="it runs still, or was killed (memory, a time limit, a cancel): see its log",
            )
        raise NotMade("was not made", where=ref["label"])
    return read_manifest(Path(ref["path"]), ref["key"])


def manifests_of(cell: dict[str, Any]) -> dict[str, dict]:
    """Return the manifests of a cell's leaves by role, as `open_leaves` does."""
    leaves = {
        f"{role}:{split}": ref
        for split, pair in cell["texts"].items()
        for role, ref in pair.items()
    }
    leaves |= {f"perplexity:{name}": ref for name, ref in cell["perplexities"].items()}
    leaves |= {f"tasks:{name}": ref for name, ref in cell["tasks"].items()}
    if cell["efficiency"]:
        leaves["efficiency:"] = cell["efficiency"]
    return open_leaves(cell, leaves)


def open_leaves(cell: dict[str, Any], leaves: dict[str, dict]) -> dict[str, dict]:
    """Return the manifests of leaves by role.

    Raises:
        PrunegridError: one was not made, with the reason of the first failure in the cell's chain;
            or it is broken.
    """
    missing = [ref for ref in leaves.values() if not Path(ref["path"], "manifest.json").exists()]
    if missing:
        for ref in cell["ancestors"]:
            if has_failed(Path(ref["status"])):
                open_artifact(ref)
        open_artifact(missing[0])
    return {role: open_artifact(ref) for role, ref in leaves.items()}


def measured_values(cell: dict[str, Any], manifests: dict[str, dict]) -> dict[str, Any]:
    """Return what was measured on the weights; every leaf must have seen the same ones."""
    seen = {
        role: m["record"]["weights"]
        for role, m in manifests.items()
        if not role.startswith("scores:")
    }
    first_role, weights = next(iter(seen.items()))
    for role, other in seen.items():
        if other != weights:
            raise AttestationError(
                f"{role.strip(':')} and {first_role.strip(':')} ran on different weights",
                where=cell["chain"][-1]["path"],
                remedy="delete this cell's artifacts and run again",
            )
    lead = manifests[first_role]
    if lead["parents"]["weights"]["key"] != cell["chain"][-1]["key"]:
        raise AttestationError("evaluated another artifact", where=cell["chain"][-1]["path"])
    require_counted(weights, lead["lineage"][0]["record"]["weights"])
    row = {fact: weights[fact] for fact in WEIGHT_FACTS}
    row |= {
        "weights_sha256": weights["sha256"],
        "artifact": cell["chain"][-1]["path"],
        "weight_precision": weights["precision"],
        "threads": lead["threads"],
        "device": lead["device"],
        "dtype": lead["lineage"][0]["record"]["weights"]["precision"],
        "evaluation_dtype": lead["compute_dtype"],
        "versions": canonical_json(lead["versions"]),
        "lineage": canonical_json([[ref["stage"], ref["key"]] for ref in cell["chain"]]),
        "adopted": adopted([*lead["lineage"], *manifests.values()]),
    }
    tuned = [step["record"]["train"] for step in lead["lineage"] if step["stage"] == "finetune"]
    row |= training_columns(tuned) | recovered(lead["lineage"])
    return row | _generated(manifests) | _asked(cell, manifests) | _timed(manifests)


def adopted(steps: list[dict]) -> str | None:
    """Return the decisions by which steps were kept under changed code or versions, as JSON."""
    found = [
        {"stage": step["stage"], "label": step["label"], **decision}
        for step in steps
        for decision in step.get("adopted", ())
    ]
    return canonical_json(found) if found else None


def require_counted(weights: dict, dense: dict) -> None:
    """Check that what was removed is counted from the dense model of the row's own chain."""
    before = weights["parameters_before"]
    if before is not None and before != dense["parameters"]:
        raise AttestationError(
            f"removed parameters are counted from {before}",
            expected=f"the {dense['parameters']} of the dense model",
            remedy="delete this cell's artifacts and run again",
        )


def training_columns(tuned: list[dict]) -> dict[str, Any]:
    """Return what the fine-tunings of a chain cost, and how the last one was chosen."""
    if not tuned:
        return {}
    return {
        "learning_rate": tuned[-1]["learning_rate"],
        "train_runs": sum(facts["runs"] for facts in tuned),
        "compute_dtype": "+".join(dict.fromkeys(facts["compute_dtype"] for facts in tuned)),
        "train_steps": sum(facts["steps"] for facts in tuned),
        "train_tokens": sum(facts["tokens"] for facts in tuned),
        "train_seconds": sum(facts["train_seconds"] for facts in tuned),
        "train_peak_memory_bytes": max(facts["peak_memory_bytes"] for facts in tuned),
        "dev_loss": tuned[-1]["dev_loss"],
    }


def recovered(lineage: list[dict]) -> dict[str, Any]:
    """Return what the steps after the last pruning did to its zeros, and what merging cost.

    The promise is the weakest of these steps, the filled places are those of all of them; what
    later prunings brought back is counted over the whole chain.
    """
    found: dict[str, Any] = {}
    prunings = [step["record"] for step in lineage if step["stage"] == "prune"]
    for step in lineage:
        facts = step["record"].get("train") or step["record"].get("transform") or {}
        promise = facts.get("zeros_promised")
        if step["stage"] == "prune":
            found = {}
        elif promise is not None:
            before = found.get("zeros_promised", promise)
            found["zeros_promised"] = min(before, promise, key=PROMISES.index)
            found["zeros_filled"] = found.get("zeros_filled", 0) + facts["zeros_filled"]
        found |= {key: facts[key] for key in MERGE_LOSSES if key in facts}
    if len(prunings) > 1:
        found["zeros_revived"] = sum(record["zeros_revived"] for record in prunings[1:])
    return found


def _generated(manifests: dict[str, dict]) -> dict[str, Any]:
    made = {role: m for role, m in sorted(manifests.items()) if role.startswith("predictions:")}
    if not made:
        return {}
    contents = canonical_json({role: m["content"] for role, m in made.items()})
    first = next(iter(made.values()))
    return {
        "generate_seconds": sum(m["record"]["generate_seconds"] for m in made.values()),
        "references_cut": sum(m["record"]["references_cut"] for m in made.values()),
        "data_sha256": first["parents"]["data"]["content"],
        "prompt_sha256": first["record"]["prompt_sha256"],
        "predictions_sha256": hashlib.sha256(contents.encode()).hexdigest(),
    }


def _asked(cell: dict[str, Any], manifests: dict[str, dict]) -> dict[str, Any]:
    """Return how many prompts of tasks were cut, and digests of all answers and heads.

    Without a digest where one was text: models may share it.
    """
    asked = {
        f"tasks:{name}": record_of(ref, manifests[f"tasks:{name}"])
        for name, ref in sorted(cell["tasks"].items())
    }
    if not asked:
        return {}
    found: dict[str, Any] = {"contexts_cut": sum(r["contexts_cut"] for r in asked.values())}
    told = {role: record["answers_sha256"] for role, record in asked.items()}
    if None not in told.values():
        found["answers_sha256"] = hashlib.sha256(canonical_json(told).encode()).hexdigest()
    heads = {role: r["head_sha256"] for role, r in asked.items() if "head_sha256" in r}
    if heads:
        found["heads_sha256"] = hashlib.sha256(canonical_json(heads).encode()).hexdigest()
    return found


def _timed(manifests: dict[str, dict]) -> dict[str, Any]:
    if "efficiency:" not in manifests:
        return {}
    record = manifests["efficiency:"]["record"]
    sparse, sized = record["sparse_kernels"] or {}, record["sizes"] or {}
    speeds = ("prefill_tokens_per_second", "decode_tokens_per_second")
    return {
        **speed.columns(record),
        "peak_memory_bytes": record["peak_memory_bytes"],
        "sparse_kernel_linears": sparse.get("linears"),
        **{f"sparse_kernel_{name}": sparse[name]["median"] for name in speeds if name in sparse},
        "energy_joules_estimate": record["energy_joules"],
        "energy_method": record["energy_method"],
        **{f"bytes_{form}": size for form, size in sized.get("bytes", {}).items()},
    }


def _scores(plan: dict, cell: dict, manifests: dict[str, dict], row: dict) -> list[dict]:
    name = " / ".join(str(row[key]) for key in ("model", "prune", "finetune"))
    about = {"study": plan["study"], "kind": "cell", "name": name}
    about |= {key: row.get(key) for key in (*cell["columns"], "weight_precision")}
    long = []
    for split, pair in cell["texts"].items():
        scores, made = manifests[f"scores:{split}"], manifests[f"predictions:{split}"]
        if scores["parents"]["predictions"]["content"] != made["content"]:
            raise AttestationError(
                "the scores were computed from other predictions",
                where=pair["scores"]["path"],
                remedy="delete the folder and run again",
            )
        long += text_rows(plan, about, split, pair["scores"], scores)
    for evaluation, ref in cell["perplexities"].items():
        record = manifests[f"perplexity:{evaluation}"]["record"]
        low, high = _perplexity_interval(plan, Path(ref["path"], "windows.parquet"))
        long.append(
            about
            | {"split": evaluation, "metric": record["metric"], "value": record["perplexity"]}
            | {"low": low, "high": high, "n": record["windows"], "higher_is_better": False}
        )
        long[-1] |= levels(long[-1], record)
    asked = cell["tasks"]
    records = {name: record_of(ref, manifests[f"tasks:{name}"]) for name, ref in asked.items()}
    return long + benchmarks.task_rows(plan, about, asked, records)


def text_rows(plan: dict, about: dict, split: str, ref: dict, scores: dict) -> list[dict]:
    items = pandas.read_parquet(folder_of(ref) / "scores.parquet")
    record = record_of(ref, scores)
    rows = []
    for metric, summary in record["summary"].items():
        low = high = None
        if metric in items and items[metric].notna().any():
            low, high = interval(plan, items[metric].dropna().to_numpy())
        elif summary.get("corpus"):
            facts = record["metrics"].get(metric, {})
            low, high = corpus_interval(facts.get("details", {}))
        rows.append(
            about
            | {"split": split, "metric": metric, "value": summary["mean"], "n": summary["n"]}
            | {"low": low, "high": high, "higher_is_better": summary["higher_is_better"]}
        )
        rows[-1] |= levels(rows[-1], summary)
    return rows


def _perplexity_interval(plan: dict, path: Path) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of the perplexity over windows."""
    windows = pandas.read_parquet(path)
    picks = resampled(plan, len(windows))
    loss, units = windows["loss"].to_numpy(), windows["units"].to_numpy()
    nll = loss[picks].sum(axis=1) / units[picks].sum(axis=1)
    low, high = numpy.quantile(nll, [0.025, 0.975])
    return math.exp(low), math.exp(high)
