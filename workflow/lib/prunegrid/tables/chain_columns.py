"""Columns of a row that its chain of steps fills: what was kept, tuned and done to the zeros."""

from __future__ import annotations

from typing import Any

from prunegrid.common.file_io import canonical_json

# Which zeros a step promises to keep (`prunegrid.models.zero_masks`), the weakest first.
PROMISES = ("none", "base", "all")
MERGE_LOSSES = ("merge_loss_before", "merge_loss_after")


def adopted(steps: list[dict]) -> str | None:
    """Return the decisions by which steps were kept under changed code or versions, as JSON."""
    decisions = [
        {"stage": step["stage"], "label": step["label"], **decision}
        for step in steps
        for decision in step.get("adopted", ())
    ]
    return canonical_json(decisions) if decisions else None


def training(tuned: list[dict]) -> dict[str, Any]:
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
    columns: dict[str, Any] = {}
    prunings = [step["record"] for step in lineage if step["stage"] == "prune"]
    for step in lineage:
        facts = step["record"].get("train") or step["record"].get("transform") or {}
        promise = facts.get("zeros_promised")
        if step["stage"] == "prune":
            columns = {}
        elif promise is not None:
            before = columns.get("zeros_promised", promise)
            columns["zeros_promised"] = min(before, promise, key=PROMISES.index)
            columns["zeros_filled"] = columns.get("zeros_filled", 0) + facts["zeros_filled"]
        columns |= {key: facts[key] for key in MERGE_LOSSES if key in facts}
    key = "dead_weights_beyond"
    if counts := [record[key] for record in prunings if key in record]:
        columns[key] = sum(counts)
    if len(prunings) > 1:
        columns["zeros_revived"] = sum(record["zeros_revived"] for record in prunings[1:])
    reached = [record["experts"] for record in prunings if "experts" in record]
    if reached:
        columns |= {f"experts_{fact}": len(names) for fact, names in reached[-1].items()}
    return columns
