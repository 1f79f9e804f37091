"""Nodes: artifacts to be made, each by a stage, its settings and its parents."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.common import plugins

RESULTS = Path("results")
ARTIFACTS = RESULTS / "artifacts"
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
        label: a name for people; not part of the key.
        settings: the part of the config that the step reads; plain builtins.
        parents: {role: node}.
        roots: modules and files from which all code is reached that runs.
        code: the digest of that code.
        pins: {package: version} of the packages that its bytes depend on.
        threads: torch's threads.
        device: "cpu" or "cuda".
        compute_dtype: the precision of its products; None if it computes none.
        memory: how models are held; not part of the key.
        training: how often training saves its state; not part of the key.
        key: the digest of all these.
        results: the folder of all results, which a `prefix` of a Snakemake module moves.
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
    key: str
    results: Path = RESULTS

    @functools.cached_property
    def path(self) -> Path:
        """Return the artifact's folder."""
        return self.results / "artifacts" / self.stage / self.key

    @functools.cached_property
    def manifest(self) -> str:
        """Return the file that stands for the artifact in the workflow."""
        return f"{self.path.as_posix()}/manifest.json"

    @property
    def status(self) -> Path:
        """Return the record of a running or failed job."""
        return self.results / "status" / f"{self.stage}-{self.key}.json"

    @property
    def log(self) -> str:
        """Return the log of its last job."""
        return f"{self.results.as_posix()}/logs/{self.stage}/{self.key}.log"

    @property
    def scratch(self) -> str:
        """Return a folder that outlives a killed job; the maker's lock is `<scratch>.lock`."""
        return f"{self.results.as_posix()}/scratch/{self.stage}-{self.key}"

    @functools.cached_property
    def ref(self) -> dict[str, str]:
        """Return the entry in a table's plan, plain builtins; one dict for all rows."""
        return {
            "path": self.path.as_posix(),
            "key": self.key,
            "stage": self.stage,
            "label": self.label,
            "status": self.status.as_posix(),
        }

    def params(self) -> dict[str, Any]:
        """Return everything that its job needs, in plain builtins."""
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


def lineage(weights: Node) -> Iterator[Node]:
    """Yield the node of some weights and those that it was made of, one by one, the model last."""
    while weights.stage != "model":
        yield weights
        weights = weights.parents["weights"]
    yield weights


def with_ancestors(
    nodes: Iterable[Node], unless: Callable[[Node], bool] = lambda node: False
) -> list[Node]:
    """Return nodes and all that they depend on, each once, parents before children.

    Nodes of which `unless` is true are left out, and so is what only they depend on.
    """
    kept: dict[Node, bool] = {}

    def visit(node: Node) -> None:
        if node in kept:
            return
        left_out = unless(node)
        for parent in () if left_out else node.parents.values():
            visit(parent)
        kept[node] = not left_out

    for node in nodes:
        visit(node)
    return [node for node, is_kept in kept.items() if is_kept]


def without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings without those that change no bytes: a note, a size, a user's paths.

    The content of a user's files is in the key by a digest (data, models) or as code (plugins).
    """
    counted = {key: value for key, value in settings.items() if key != plugins.OWN}
    if "source" in counted:
        plain = ("path", "note", "parameters")
        counted["source"] = {k: v for k, v in counted["source"].items() if k not in plain}
    if isinstance(counted.get("metrics"), dict):  # of texts; those of tasks are names
        counted["metrics"] = {
            name: {k: v for k, v in metric.items() if k != "path"}
            for name, metric in counted["metrics"].items()
        }
    return counted
