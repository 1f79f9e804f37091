"""One row a cell, read from the manifests of its artifacts and nothing else."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.parts import folder_of, record_of
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.file_io import canonical_json
from prunegrid.tables import benchmarks, chain_columns, speed
from prunegrid.tables.intervals import interval, levels, own_interval
from prunegrid.tables.learned import learned_shares
from prunegrid.tables.leaves import manifests_of, open_artifact, status_of
from prunegrid.tables.schema import COLUMNS, Plan, cell_title

WEIGHT_FACTS = (
    "adapter",
    "sparsity_prunable",
    "nm_valid",
    "sparsity_effective",
    "sparsity_model",
    "prunable_share",
    "excluded_share",
    "router_share",
    "uncalled_share",
    "removed_prunable",
    "removed_total",
    "parameters",
    "nonzero_parameters",
    "file_bytes",
)


def cell_rows(plan: Plan, cell: dict[str, Any]) -> tuple[dict, list[dict]]:
    """Return the row of one cell and its long rows; a cell without scores has the reason."""
    base = {column.name: None for column in COLUMNS}
    base |= {"study": plan["study"], **cell["columns"]}
    try:
        manifests = manifests_of(cell)
        row = base | measured_values(cell, manifests)
        long = _scores(plan, cell, manifests, row)
    except PrunegridError as error:
        return base | status_of(error), []
    shares, cut = learned_shares(plan, cell), _cut(cell, manifests)
    row["learned_share"] = max((s for s in shares.values() if s is not None), default=None)
    row["contexts_cut"] = sum(cut.values()) if cut else None
    cut |= {name: sum(cut.get(task, 0) for task in m["tasks"]) for name, m in plan["means"].items()}
    for split in cell["texts"]:
        row[f"{split}_n"] = manifests[f"predictions:{split}"]["record"]["rows"]
    for entry in long:
        split, column = entry["split"], f"{entry['split']}_{entry['metric']}"
        entry |= {"learned_share": shares.get(split), "contexts_cut": cut.get(split)}
        row.setdefault(f"{split}_n", entry["n"])
        row[column] = entry["value"]
        if entry.get("stderr") is not None:
            row[f"{column}_stderr"] = entry["stderr"]
    return row | {"status": "ok", "reason": None}, long


def baseline_rows(plan: Plan, baseline: dict[str, Any]) -> list[dict]:
    """Return the long rows of one control on one split.

    Raises:
        PrunegridError: its artifact is missing or broken.
    """
    scores = open_artifact(baseline["scores"])
    about = {"study": plan["study"], "kind": baseline["role"], "name": baseline["baseline"]}
    about |= {"dataset": baseline["dataset"]}
    return text_rows(plan, about, baseline["split"], baseline["scores"], scores)


def measured_values(cell: dict[str, Any], manifests: dict[str, dict]) -> dict[str, Any]:
    """Return the columns that were measured on the weights.

    Raises:
        AttestationError: the leaves have seen different weights, or others than the cell's.
    """
    steps = cell["chain"]
    path, lead = steps[-1]["path"], _leader(manifests, steps[-1]["path"])
    if lead["parents"]["weights"]["key"] != steps[-1]["key"]:
        raise AttestationError("evaluated another artifact", where=path)
    weights, dense = lead["record"]["weights"], lead["lineage"][0]["record"]["weights"]
    require_counted(weights, dense)
    tuned = [step["record"]["train"] for step in lead["lineage"] if step["stage"] == "finetune"]
    return {
        **{fact: weights.get(fact) for fact in WEIGHT_FACTS},
        "weights_sha256": weights["sha256"],
        "artifact": path,
        "weight_precision": weights["precision"],
        "threads": lead["threads"],
        "device": lead["device"],
        "dtype": dense["precision"],
        "evaluation_dtype": lead["compute_dtype"],
        "versions": canonical_json(lead["versions"]),
        "lineage": canonical_json([[step["stage"], step["key"]] for step in steps]),
        "adopted": chain_columns.adopted([*lead["lineage"], *manifests.values()]),
        "other_token_ids": other_token_ids([*lead["lineage"], *manifests.values()]),
        **chain_columns.training(tuned),
        **chain_columns.recovered(lead["lineage"]),
        **_generated(manifests),
        **_answered(cell, manifests),
        **_timed(manifests),
    }


def _leader(manifests: dict[str, dict], path: str) -> dict:
    """Return the first manifest that names weights; all must name the same ones."""
    named = {role: m for role, m in manifests.items() if not role.startswith("scores:")}
    first, lead = next(iter(named.items()))
    for role, other in named.items():
        if other["record"]["weights"] != lead["record"]["weights"]:
            raise AttestationError(
                f"{role.strip(':')} and {first.strip(':')} ran on different weights",
                where=path,
                remedy="delete this cell's artifacts and run again",
            )
    return lead


def other_token_ids(steps: list[dict]) -> str | None:
    """Return the stages in which the tokenizer gave other ids than at the model's import."""
    stages = dict.fromkeys(step["stage"] for step in steps if step.get("other_token_ids"))
    return "+".join(stages) or None


def retokenized(rows: list[dict]) -> list[str]:
    """Return a sentence for each row in a step of which the tokenizer gave other token ids."""
    return [
        f"{cell_title(row)}: the tokenizer gave other token ids than at the model's import "
        f"({row['other_token_ids']}), so that its scores are of other prompts than they seem"
        for row in rows
        if row["other_token_ids"] is not None
    ]


def require_counted(weights: dict, dense: dict) -> None:
    """Check that what was removed is counted from the dense model of the row's own chain."""
    before = weights["parameters_before"]
    if before is not None and before != dense["parameters"]:
        raise AttestationError(
            f"removed parameters are counted from {before}",
            expected=f"the {dense['parameters']} of the dense model",
            remedy="delete this cell's artifacts and run again",
        )


def _generated(manifests: dict[str, dict]) -> dict[str, Any]:
    texts = {role: m for role, m in sorted(manifests.items()) if role.startswith("predictions:")}
    if not texts:
        return {}
    first = next(iter(texts.values()))
    return {
        "generate_seconds": sum(m["record"]["generate_seconds"] for m in texts.values()),
        "references_cut": sum(m["record"]["references_cut"] for m in texts.values()),
        "data_sha256": first["parents"]["data"]["content"],
        "prompt_sha256": _sha256({role: m["record"]["prompt_sha256"] for role, m in texts.items()}),
        "predictions_sha256": _sha256({role: m["content"] for role, m in texts.items()}),
    }


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _tasks(cell: dict[str, Any], manifests: dict[str, dict]) -> dict[str, dict]:
    """Return the records of a cell's tasks by name."""
    return {name: record_of(ref, manifests[f"tasks:{name}"]) for name, ref in cell["tasks"].items()}


def _cut(cell: dict[str, Any], manifests: dict[str, dict]) -> dict[str, int]:
    """Return {split or task: how many of its prompts were cut to fit the model's positions}."""
    cut = {split: manifests[f"predictions:{split}"]["record"] for split in cell["texts"]}
    cut |= _tasks(cell, manifests)
    return {name: record["contexts_cut"] for name, record in cut.items()}


def _answered(cell: dict[str, Any], manifests: dict[str, dict]) -> dict[str, Any]:
    """Return digests of all answers and heads.

    Answers have no digest if one is a text, because models may share it.
    """
    records = {f"tasks:{name}": record for name, record in _tasks(cell, manifests).items()}
    if not records:
        return {}
    columns: dict[str, Any] = {}
    answers = {role: record["answers_sha256"] for role, record in records.items()}
    if None not in answers.values():
        columns["answers_sha256"] = _sha256(answers)
    heads = {role: r["head_sha256"] for role, r in records.items() if "head_sha256" in r}
    if heads:
        columns["heads_sha256"] = _sha256(heads)
    return columns


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


def _scores(plan: Plan, cell: dict, manifests: dict[str, dict], row: dict) -> list[dict]:
    name = cell_title(row, ("model", "prune", "finetune"))
    about = {"study": plan["study"], "kind": "cell", "name": name}
    about |= {key: row.get(key) for key in (*cell["columns"], "weight_precision")}
    long = []
    for split, pair in cell["texts"].items():
        scores, predictions = manifests[f"scores:{split}"], manifests[f"predictions:{split}"]
        if scores["parents"]["predictions"]["content"] != predictions["content"]:
            raise AttestationError(
                "the scores were computed from other predictions",
                where=pair["scores"]["path"],
                remedy="delete the folder and run again",
            )
        long += text_rows(plan, about, split, pair["scores"], scores)
    for evaluation, ref in cell["perplexities"].items():
        record = manifests[f"perplexity:{evaluation}"]["record"]
        windows = pandas.read_parquet(Path(ref["path"], "windows.parquet"))
        low, high = interval(plan, windows["loss"].to_numpy(), windows["units"].to_numpy())
        entry = {"split": evaluation, "metric": record["metric"], "value": record["perplexity"]}
        entry |= {"low": math.exp(low), "high": math.exp(high), "n": record["windows"]}
        entry |= about | {"higher_is_better": False}
        long.append(entry | levels(entry, record))
    return long + benchmarks.task_rows(plan, about, cell["tasks"], _tasks(cell, manifests))


def text_rows(plan: Plan, about: dict, split: str, ref: dict, scores: dict) -> list[dict]:
    """Return the long rows of the texts of a split.

    Args:
        about: what all rows of the cell or control share.
        ref: the artifact of the scores, or the part of one.
    """
    items = pandas.read_parquet(folder_of(ref) / "scores.parquet")
    record = record_of(ref, scores)
    rows = []
    for metric, summary in record["summary"].items():
        low = high = None
        if metric in items and items[metric].notna().any():
            low, high = interval(plan, items[metric].dropna().to_numpy())
        elif summary.get("corpus"):
            facts = record["metrics"].get(metric, {})
            low, high = own_interval(facts.get("details", {}))
        row = about | {"split": split, "metric": metric, "value": summary["mean"]}
        row |= {"low": low, "high": high, "n": summary["n"]}
        row |= {"higher_is_better": summary["higher_is_better"]}
        rows.append(row | levels(row, summary))
    return rows
