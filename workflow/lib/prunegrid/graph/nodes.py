"""A node is one artifact to be made: a stage, its own slice of the config, its parents."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ARTIFACTS = Path("results/artifacts")
# Stages whose artifacts are weights.
WEIGHTS_MADE = ("prune", "finetune", "transform")
WEIGHTS = ("model", *WEIGHTS_MADE)
# Stages whose large files go once no step of a run reads them (`keep_weights`).
DROPPABLE = (*WEIGHTS_MADE, "hessians")


@dataclass(frozen=True, eq=False)
class Node:
    """One artifact.

    Attributes:
        stage: the name of a module of `prunegrid.stages`.
        label: for people; not part of the key.
        settings: the slice of the config that the step reads; plain builtins.
        parents: role -> node.
        roots: modules and files whose import closures are the code that runs.
        code: its digest.
        pins: {package: version} of the packages that its bytes depend on.
        threads: torch's threads.
        device: "cpu" or "cuda".
        compute_dtype: what its products are computed in; None where it computes none.
        memory: how models are held; not part of the key.
        training: how often training saves its state; not part of the key.
        key: what all of it comes to.
    """

    stage: str
    label: str
    settings: dict[str, Any]
    parents: dict[str, Node]
    roots: tuple[str, ...]
    code: str
    pins: dict[str, str]
    threads: int
    device: str
    compute_dtype: str | None
    memory: dict[str, Any]
    training: dict[str, Any]
    key: str = field(default="")

    @functools.cached_property
    def path(self) -> Path:
        """The artifact's folder."""
        return ARTIFACTS / self.stage / self.key

    @functools.cached_property
    def manifest(self) -> str:
        """The file that stands for the artifact in the workflow."""
        return f"{self.path.as_posix()}/manifest.json"

    @property
    def status(self) -> Path:
        """The record of a running or failed job."""
        return Path("results/status") / f"{self.stage}-{self.key}.json"

    @property
    def scratch(self) -> str:
        """A folder that outlives a killed job; beside it, with `.lock`, the lock of its maker."""
        return f"results/scratch/{self.stage}-{self.key}"

    @functools.cached_property
    def ref(self) -> dict[str, str]:
        """What a table's plan says of it, in plain builtins; one dict for all rows."""
        return {
            "path": self.path.as_posix(),
            "key": self.key,
            "stage": self.stage,
            "label": self.label,
            "status": self.status.as_posix(),
        }

    def params(self) -> dict[str, Any]:
        """Return all that its job needs, in plain builtins."""
        return {
            "stage": self.stage,
            "key": self.key,
            "label": self.label,
            "path": self.path.as_posix(),
            "scratch": self.scratch,
            "status": self.status.as_posix(),
            "settings": self.settings,
            "parents": {
                role: {"path": p.path.as_posix(), "key": p.key, "stage": p.stage}
                for role, p in self.parents.items()
            },
            "roots": list(self.roots),
            "code": self.code,
            "pins": self.pins,
            "threads": self.threads,
            "device": self.device,
            "compute_dtype": self.compute_dtype,
            "memory": self.memory,
            "training": self.training,
        }


def with_ancestors(nodes: Iterable[Node]) -> list[Node]:
    """Return nodes and all that they depend on, each once, parents before children."""
    found: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in found:
            for parent in node.parents.values():
                visit(parent)
            found[node] = None

    for node in nodes:
        visit(node)
    return list(found)


def without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without what changes no bytes: a note, a size, where a user's files lie.

    What it holds is in the key by its digest (data, models) or as code (metrics).
    """
    kept = dict(settings)
    if "source" in kept:
        plain = ("path", "note", "parameters")
        kept["source"] = {k: v for k, v in kept["source"].items() if k not in plain}
    if isinstance(kept.get("metrics"), dict):  # of texts; those of tasks are names
        kept["metrics"] = {
            name: {k: v for k, v in metric.items() if k != "path"}
            for name, metric in kept["metrics"].items()
        }
    return kept
