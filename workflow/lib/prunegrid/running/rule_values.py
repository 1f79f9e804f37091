"""Values of the base rule: a job's parameters, inputs, group, cores, memory and time.

Each method takes Snakemake's wildcards (`stage` and `key`) and has no effect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snakemake.io import ancient

from prunegrid.artifacts.artifact_folder import is_dropped
from prunegrid.common.errors import PrunegridError
from prunegrid.graph import pending
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import RESULTS, Node
from prunegrid.graph.stage_facts import stage_facts
from prunegrid.running import resources, snakemake_bridge
from prunegrid.running.snakemake_bridge import in_place


class RuleValues:
    """The values of the rule that all stages share.

    Args:
        workflow: Snakemake's.
        plans: {study: plan of its table}, of the tables that the run was asked for so far.
    """

    def __init__(self, graph: Graph, workflow: Any, plans: Mapping[str, Any]) -> None:
        self._graph, self._workflow, self._plans = graph, workflow, plans

    def _node(self, wildcards: Any) -> Node:
        try:
            return self._graph.find(wildcards.stage, wildcards.key)
        except PrunegridError as error:
            sys.exit(f"prunegrid: {error}")  # a WorkflowError would have a traceback

    def here(self, path: str) -> str:
        """Return a file below `results/` as the rules name it: no storage provider moves it."""
        return in_place(self._graph.results / Path(path).relative_to(RESULTS))

    def params(self, wildcards: Any) -> dict[str, Any]:
        """Return everything that a job needs, in plain builtins."""
        node, facts = self._node(wildcards), stage_facts(wildcards.stage)
        params = {**node.params(), "does": facts.does}
        if facts.measures_memory:
            params["alone"] = snakemake_bridge.alone_on(self._workflow)
        if not self._workflow.remote_exec:
            # A group that fails runs again: a submitted job drops nothing, its run does at the end.
            params["retire"] = pending.retired(self._graph, self._plans, node)
        return params

    def inputs(self, wildcards: Any) -> list[Any]:
        """Return the manifests that a job reads.

        They are ancient: an artifact's key is in its path, so its time says nothing.
        """
        node = self._node(wildcards)
        made = Path(node.manifest).exists()
        # Dropped weights that are made again must not rerun a finished step that has read them.
        read = [p.manifest for p in node.parents.values() if not (made and is_dropped(p.path))]
        return [ancient(in_place(manifest)) for manifest in dict.fromkeys(read)]

    def group(self, wildcards: Any) -> str | None:
        """Return the group in which a cluster runs a job; None if it runs by itself.

        All measurements of one set of weights are a group, with the transformation that makes them.
        """
        kind = stage_facts(wildcards.stage).group
        return kind and f"{kind}-{self._graph.group_key(self._node(wildcards))}"

    def in_turn(self, wildcards: Any) -> int:
        """Return 1 if a job is a member of a group, which run one at a time; else 0."""
        return int(stage_facts(wildcards.stage).group is not None)

    def threads(self, wildcards: Any) -> int:
        """Return the cores that Snakemake counts for a job.

        A timing takes all of this machine, so that nothing runs beside it. Inside a submitted job
        each member of a group takes all of the node: they share one member's memory, and Snakemake
        does not pass `in_turn` to a submitted job.
        """
        if self._workflow.remote_exec:
            return os.cpu_count() or 1
        if stage_facts(wildcards.stage).measures_memory:
            return snakemake_bridge.cores(self._workflow) or self.cpus(wildcards)
        return self.cpus(wildcards)

    def cpus(self, wildcards: Any) -> int:
        """Return the cores that a job computes on, the request to Slurm for it and its step."""
        node = self._node(wildcards)
        return _processes(node) * (node.threads if "torch" in node.pins else 1)

    def gpus(self, wildcards: Any) -> int:
        """Return how many devices a job takes."""
        node = self._node(wildcards)
        return int(node.device == "cuda") * _processes(node)

    # `input` makes Snakemake ask again once the weights exist whose size decides.
    def memory(self, wildcards: Any, input: Any, attempt: int) -> int:
        """Return the megabytes that a job is estimated to need, with Snakemake's own."""
        needed = resources.memory_mb(self._node(wildcards), attempt)
        return needed + snakemake_bridge.beside_mb(self._workflow)

    def minutes(self, wildcards: Any, input: Any, attempt: int) -> int:
        """Return the minutes that a job may take."""
        return resources.minutes(self._node(wildcards), attempt)

    def of_table(self, study: str) -> list[Any]:
        """Return the inputs of a study's table; for submitted jobs, a mark of each group too."""
        leaves = self._graph.study_leaves(study)
        read = [ancient(in_place(leaf.manifest)) for leaf in leaves]
        if self._workflow.local_exec:
            return read
        absent = [n for n in leaves if _is_grouped(n) and not Path(n.manifest).exists()]
        missing = {self._graph.group_key(node) for node in absent}
        return [
            *read,
            *(self.here(f"results/status/{study}-{key}.measured") for key in sorted(missing)),
        ]

    def measured(self, wildcards: Any) -> list[str]:
        """Return the manifests of a study's measurements of one set of weights in a group."""
        leaves = filter(_is_grouped, self._graph.study_leaves(wildcards.study))
        return [in_place(n.manifest) for n in leaves if self._graph.group_key(n) == wildcards.key]


def _is_grouped(node: Node) -> bool:
    """Return whether a cluster runs a node in a group; controls and a census it runs alone."""
    return stage_facts(node.stage).group is not None


def _processes(node: Node) -> int:
    """Return how many processes train together."""
    return node.settings.get("processes", 1)
