"""Where a cell's model and data come from and what was done to it, read from the manifests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder
from prunegrid.common.errors import AttestationError
from prunegrid.graph.nodes import without_paths
from prunegrid.tables.one_cell import TableCell

# Facts of a source that are shown; its path on this machine is not among them.
_SHOWN = ("kind", "resolved", "licence", "licence_of", "note")


def steps(cell: TableCell) -> list[dict[str, Any]]:
    """Return {stage, key, label, content, settings, versions, …} of a cell's steps, in order.

    Of a step whose artifact is gone only stage, key and label are known.
    """
    known = ("content", "settings", "versions", "code", "threads", "device", "compute_dtype")
    found = []
    for ref in cell.plan["chain"]:
        manifest = _recorded(ref)
        facts = {fact: manifest[fact] for fact in known if fact in manifest}
        if "settings" in facts:
            facts["settings"] = without_paths(facts["settings"])
        found.append({name: ref[name] for name in ("stage", "key", "label")} | facts)
    return found


def model_source(cell: TableCell) -> dict[str, Any]:
    """Return {kind, name, resolved, licence, note} of the model that a cell begins with."""
    return _source(cell.plan["chain"][0])


def task_of(cell: TableCell) -> str:
    """Return the task of a cell's model, as profiles name it."""
    settings = _recorded(cell.plan["chain"][0]).get("settings", {})
    return settings.get("task", "causal-lm")


def learned(cell: TableCell) -> list[dict[str, Any]]:
    """Return {label, split, source, use} of the texts that a cell was calibrated or tuned on.

    `use` is `calibrated` or `tuned`; of a table that does not say it, None.
    """
    return [_data(entry) | {"use": entry.get("use")} for entry in cell.plan["learned"]]


def scored(cell: TableCell) -> dict[str, dict[str, Any]]:
    """Return {split, evaluation or task: {label, split, source, rows} of the texts scored}."""
    texts = {name: entry["texts"] for name, entry in cell.plan["scored"].items()}
    return {name: _data(entry) | {"rows": entry["rows"]} for name, entry in texts.items()}


def _data(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the plan of a table says of some texts, with their source."""
    label = entry["data"]["label"].removeprefix("data ")
    return {"label": label, "split": entry["split"], "source": _source(entry["data"])}


def _source(ref: Mapping[str, Any]) -> dict[str, Any]:
    record = _recorded(ref).get("record", {}).get("source") or {}
    source = {fact: record.get(fact) for fact in _SHOWN}
    local = source["kind"] == "local"
    return source | {"name": "a local file or folder" if local else record.get("name")}


def _recorded(ref: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the manifest of an artifact, {} if it is gone."""
    try:
        return artifact_folder.recorded(Path(ref["path"]))
    except AttestationError:
        return {}


def repository(source: Mapping[str, Any]) -> str | None:
    """Return the repository of the hub that a source is; None for other sources."""
    name = source["name"] or ""
    return name.removeprefix("hf:").partition("@")[0] if source["kind"] == "hf" else None
