"""The graph of all artifacts of a config: from the cells of its studies to nodes with keys.

A key covers everything that an artifact's bytes depend on; nodes of equal keys are one node.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.config.cells import Cell, Step
from prunegrid.config.grid import expand
from prunegrid.config.validated import Config
from prunegrid.graph.evaluation_nodes import EvaluationNodes, Part
from prunegrid.graph.nodes import RESULTS, Node, lineage, with_ancestors


@dataclass(frozen=True)
class CellPlan:
    """The artifacts of one cell.

    Attributes:
        chain: the nodes that change its weights, in order: the model first.
        data: the node of its data set; None if its study needs none.
        texts: {split: (predictions, scores)}.
        perplexities: {evaluation: node}.
        tasks: {task, or evaluation by classes: its part of an artifact}.
        efficiency: the node that times it, or None.
        census: the node that counts its weights, or None.
    """

    cell: Cell
    chain: tuple[Node, ...]
    data: Node | None
    texts: dict[str, tuple[Node, Node]]
    perplexities: dict[str, Node]
    tasks: dict[str, Part]
    efficiency: Node | None
    census: Node | None = None

    def leaves(self) -> list[Node]:
        """Return the nodes that its row is read from."""
        texts = [node for pair in self.texts.values() for node in pair]
        tasks = dict.fromkeys(part.node for part in self.tasks.values())
        others = [node for node in (self.efficiency, self.census) if node]
        return [*texts, *self.perplexities.values(), *tasks, *others]

    def nodes(self) -> list[Node]:
        """Return every node that it depends on, parents before children, its leaves last."""
        return with_ancestors(self.leaves())


class Graph(EvaluationNodes):
    """All nodes of a config, each made once. `root`: the folder of the Snakefile."""

    def __init__(self, config: Config, root: Path, results: Path = RESULTS) -> None:
        super().__init__(config, root, results)
        self._unread = list(config.sections["studies"])

    def find(self, stage: str, key: str) -> Node:
        """Return the node of a stage and key.

        Raises:
            PrunegridError: no study of the config holds it.
        """
        # A submitted job looks for one node: planning all studies would take it several seconds.
        while (stage, key) not in self._nodes and self._unread:
            study = self._unread.pop(0)
            self.plans(study)
            self.controls(study)
        if (stage, key) not in self._nodes:
            raise PrunegridError(
                f"no study of the config makes the {stage} {key}",
                remedy="name a table, or give the config (and the files) that it was made of",
            )
        return self._nodes[stage, key]

    def all_nodes(self) -> list[Node]:
        """Return every node that a study of the config reaches."""
        return with_ancestors(
            leaf for study in self.config.sections["studies"] for leaf in self.study_leaves(study)
        )

    def study_leaves(self, study_name: str) -> list[Node]:
        """Return the nodes that a study's table is read from, each once."""
        leaves = [leaf for plan in self.plans(study_name) for leaf in plan.leaves()]
        leaves += [part.node for part in self.controls(study_name).values()]
        return list(dict.fromkeys(leaves))

    def group_key(self, node: Node) -> str:
        """Return the key of the weights that a node measures, or that a transformation makes."""
        if node.stage == "transform":
            return node.key
        measured = node.parents.get("predictions", node)
        return measured.parents.get("weights", measured).key

    def chain(self, cell: Cell) -> tuple[Node, ...]:
        """Return the nodes that change the cell's weights: the model, then each step that acts."""
        chain = [self.model(cell.model)]
        for step in cell.acting:
            make = self._prune if step.kind == "prune" else self._finetune
            chain.append(make(cell, step, chain[0], chain[-1]))
        return tuple(chain)

    def _prune(self, cell: Cell, step: Any, model: Node, weights: Node) -> Node:
        parents = {"weights": weights}
        if step.profile.calibration is not None:
            parents["calibration"] = self.calibration(step.profile.calibration, model, cell.seed)
        if _reads_hessians(step.profile):
            reads = {"model": model, "calibration": parents["calibration"]}
            label = f"{model.label.removeprefix('model ')} > hessians"
            include = {"include": list(step.profile.include)}
            parents["hessians"] = self.node("hessians", label, include, reads)
        if base := _chooser(step):
            parents["mask"] = self._prune(cell, base, model, weights)
        settings = self.slices.prune(step.profile, cell.seed)
        label = f"{weights.label} > prune {step.name}".removeprefix("model ")
        roots, used = _pruning_roots(step.profile), _packages(step.profile)
        return self.node("prune", label, settings, parents, roots, used)

    def _finetune(self, cell: Cell, step: Any, model: Node, weights: Node) -> Node:
        settings = self.slices.finetune(step.profile, cell.dataset, cell.seed)
        parents = {"weights": weights}
        if step.trains:
            parents["data"] = self.data(cell.dataset)
        if step.profile.calibration is not None:
            # The weights before the last prune steps.
            parents["dense"] = next(node for node in lineage(weights) if node.stage != "prune")
            parents["calibration"] = self.calibration(step.profile.calibration, model, cell.seed)
        stage, does = ("finetune", "tune") if step.trains else ("transform", "transform")
        label = f"{weights.label} > {stage} {step.name}".removeprefix("model ")
        roots = (plugins.root("strategy", step.profile.strategy, f":{does}"),)
        return self.node(stage, label, settings, parents, roots)

    @functools.cache  # noqa: B019
    def plans(self, study_name: str) -> list[CellPlan]:
        """Return the plan of every cell of a study."""
        return [self.plan(study_name, cell) for cell in expand(self.config, study_name)]

    def plan(self, study_name: str, cell: Cell) -> CellPlan:
        """Return the artifacts of one cell of a study."""
        chain = self.chain(cell)
        data = None if cell.dataset is None else self.data(cell.dataset)
        return CellPlan(cell, chain, data, **self.measures(study_name, cell, chain[-1]))

    @functools.cache  # noqa: B019
    def controls(self, study_name: str) -> dict[tuple[str, str, str], Part]:
        """Return {(data set, control, split): its part of an artifact} of a study."""
        parts = {}
        for name in self.config.profile("studies", study_name).evaluations:
            evaluation = self.config.profile("evaluations", name)
            controls = getattr(evaluation, "baselines", {})
            if not controls:
                continue
            datasets = sorted({plan.cell.dataset for plan in self.plans(study_name)})
            places = list(itertools.product(datasets, evaluation.splits))
            written = {place: self.written_controls(name, *place) for place in places}
            for control, (dataset, split) in itertools.product(controls, places):
                parts[dataset, control, split] = written[dataset, split][control]
        return parts


def _chooser(step: Step) -> Step | None:
    """Return the step whose mask a pruning step takes on; None if it chooses it itself.

    Where inputs are the dense model's, no later part changes the mask. A refined one is taken from
    the step that does nothing but refine it, one that needs Hessians from the criterion's own step.
    """
    profile = step.profile
    if profile.pattern == "structured" or profile.propagation != "dense":
        return None
    if profile.refine and profile.update not in (None, "none"):
        less, name = {"update": "none", "update_settings": {}}, "refined"
    elif (profile.refine or profile.update) and plugins.needs_of(profile, ()) == ["hessian"]:
        less = {part: None for part in ("refine", "update")}
        less |= {"refine_settings": {}, "update_settings": {}}
        name = "chosen"
    else:
        return None
    return replace(step, name=f"{step.name} ({name})", profile=profile.model_copy(update=less))


def _reads_hessians(profile: Any) -> bool:
    """Return whether a pruning step takes the Hessians of the dense model from their artifact."""
    if profile.pattern == "structured" or profile.propagation != "dense":
        return False
    return "hessian" in plugins.needs_of(profile)


def _packages(profile: Any) -> tuple[str, ...]:
    """Return the packages that the refinement of a pruning step calls."""
    if not profile.refine:
        return ()
    return tuple(plugins.part_facts("refine", profile.refine).get("PACKAGES", ()))


def _pruning_roots(profile: Any) -> tuple[str | Path, ...]:
    """Return the modules that a pruning step finds by name, and the user's files."""
    if profile.pattern == "structured":
        criterion = plugins.root("criterion of structured pruning", profile.method)
        return ("prunegrid.pruning.structured.stage", criterion)
    used = {"pruning method": profile.method, **plugins.parts_of(profile)}
    return tuple(plugins.root(kind, name) for kind, name in used.items())
