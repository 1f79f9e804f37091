"""From cells to artifacts: the nodes of the grid, their keys, their paths.

A node is one artifact to be made: a stage, its own slice of the config, its parents. Its key says
everything that its bytes depend on; nodes of equal keys are one node, whoever asks for them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.artifacts import keys
from prunegrid.common import plugins
from prunegrid.common.precision import NAMED
from prunegrid.config.cells import Cell
from prunegrid.config.grid import expand
from prunegrid.config.load import Config
from prunegrid.config.sources import NUMBERS
from prunegrid.graph.evaluation_nodes import Measures
from prunegrid.graph.key_settings import Slices
from prunegrid.graph.nodes import (
    SCORES_WITH_MODEL,
    STAGES,
    WEIGHTS,
    Node,
    with_ancestors,
    without_paths,
)

ENV_FILE = Path("envs/models.yaml")


@dataclass(frozen=True)
class CellPlan:
    """The artifacts of one cell.

    Attributes:
        cell: the cell.
        chain: the nodes that change its weights, in order: the model first.
        data: the node of its data set; None where its study needs none.
        texts: {split: (predictions, scores)}.
        perplexities: {evaluation: node}.
        tasks: {task: node}.
        efficiency: the node that times it, or None.
        census: the node that counts its weights, or None.
    """

    cell: Cell
    chain: tuple[Node, ...]
    data: Node | None
    texts: dict[str, tuple[Node, Node]]
    perplexities: dict[str, Node]
    tasks: dict[str, Node]
    efficiency: Node | None
    census: Node | None = None

    def leaves(self) -> list[Node]:
        """Return the nodes that its row is read from."""
        scored = [node for pair in self.texts.values() for node in pair]
        alone = [node for node in (self.efficiency, self.census) if node]
        return [*scored, *self.perplexities.values(), *self.tasks.values(), *alone]

    def nodes(self) -> list[Node]:
        """Return every node that it depends on, parents before children, its leaves last."""
        return with_ancestors(self.leaves())


class Graph:
    """All nodes of a config, found by stage and key, made once.

    Args:
        config: the validated config.
        root: the folder of the Snakefile, where `envs/` is.
        first: studies in which a node is looked for before all others; unknown names are nothing.
    """

    def __init__(self, config: Config, root: Path, first: Iterable[str] = ()) -> None:
        self.config = config
        self.pins = keys.read_pins(root / ENV_FILE)
        self.slices = Slices(config)
        self.measures = Measures(self)
        self._nodes: dict[tuple[str, str], Node] = {}
        studies = config.sections["studies"]
        self._unread = list(dict.fromkeys([*(n for n in first if n in studies), *studies]))

    def find(self, stage: str, key: str) -> Node:
        """Return the node of a stage and key.

        Raises:
            KeyError: no study of the config holds it.
        """
        # A submitted job looks for one node: planning all studies would take it several seconds.
        while (stage, key) not in self._nodes and self._unread:
            study = self._unread.pop(0)
            self.plans(study)
            self.baselines(study)
        return self._nodes[stage, key]

    def all_nodes(self) -> list[Node]:
        """Return every node that a study of the config reaches."""
        return with_ancestors(
            leaf for study in self.config.sections["studies"] for leaf in self.study_leaves(study)
        )

    def study_leaves(self, study_name: str) -> list[Node]:
        """Return the nodes that a study's table is read from, each once."""
        found: dict[Node, None] = {}
        for plan in self.plans(study_name):
            found |= dict.fromkeys(plan.leaves())
        for pair in self.baselines(study_name).values():
            found |= dict.fromkeys(pair)
        return list(found)

    def node(
        self,
        stage: str,
        label: str,
        settings: dict,
        parents: dict[str, Node],
        roots: tuple = (),
        used: tuple[str, ...] = (),
    ) -> Node:
        """Return the node of these settings and parents, the same object for the same key.

        Args:
            roots: modules and files that run beside the stage's.
            used: packages that they call; those that the environment does not pin are no part.
        """
        packages, threaded = STAGES[stage]
        if stage == "scores" and any(parent.stage == "model" for parent in parents.values()):
            packages, threaded = SCORES_WITH_MODEL
        pins = self._pinned((*packages, *(name for name in used if name in self.pins)))
        roots = (f"prunegrid.stages.{stage}", "prunegrid.common.determinism", *roots)
        code = keys.code_digest(roots)
        identity = {
            "stage": stage,
            "settings": without_paths(settings),
            "parents": {role: parent.key for role, parent in parents.items()},
            "code": code,
            "pins": pins,
            "threads": self.config.threads if threaded else None,
            "device": self.config.device if threaded else None,
            "compute_dtype": self._compute_dtype(stage, settings, parents) if threaded else None,
        }
        key = keys.digest(identity)
        if (stage, key) not in self._nodes:
            device = self.config.device if threaded else "cpu"
            self._nodes[stage, key] = Node(
                stage,
                label,
                settings,
                parents,
                tuple(str(root) for root in roots),
                code,
                pins,
                self.config.threads,
                device,
                identity["compute_dtype"],
                self.config.memory,
                self.config.training,
                key,
            )
        return self._nodes[stage, key]

    def _compute_dtype(self, stage: str, settings: dict, parents: dict[str, Node]) -> str:
        """Return what a step's products are computed in.

        Training says it itself. All else follows the weights: those stored in float32 are computed
        in float32, those in bfloat16 in what the device is fast in. A metric's model is always read
        in float32 (`metrics.bertscore`).
        """
        if stage == "scores":
            return "float32"
        if "autocast" in settings:
            return settings["autocast"]
        stored = {_stored_dtype(p) for p in parents.values() if p.stage in WEIGHTS}
        return self.config.resolved_dtype if "bfloat16" in stored else "float32"

    @functools.cache  # noqa: B019 - one graph lives as long as the process
    def _pinned(self, packages: tuple[str, ...]) -> dict[str, str]:
        return {name: self.pins[name] for name in packages}

    @functools.cache  # noqa: B019
    def model(self, name: str) -> Node:
        """Return the node of a model as it was published."""
        return self.node("model", f"model {name}", self.slices.model(name), {})

    @functools.cache  # noqa: B019
    def data(self, name: str) -> Node:
        """Return the node of a data set: one to read or download, or a mixture of others."""
        profile = self.config.profile("datasets", name)
        if profile.source == NUMBERS:
            return self.node("numbers", f"data {name}", self.slices.data(name), {})
        if profile.mixture is None:
            return self.node("data", f"data {name}", self.slices.data(name), {})
        settings, members = self.slices.mixture(name)
        parents = {role: self.part(*member) for role, member in members.items()}
        return self.node("mixture", f"mixture {name}", settings, parents)

    @functools.cache  # noqa: B019
    def part(self, name: str, *splits: str) -> Node:
        """Return the node of some splits of a data set; of kind rows, no other is fetched."""
        if self.config.profile("datasets", name).kind != "rows":
            return self.data(name)
        label = f"data {name} {' '.join(splits)}"
        return self.node("rows", label, self.slices.rows(name, splits), {})

    def chain(self, cell: Cell) -> tuple[Node, ...]:
        """Return the nodes that change the cell's weights: the model, then each step that acts."""
        chain = [self.model(cell.model)]
        for step in cell.steps:
            if step.idle:
                continue
            make = self._prune if step.kind == "prune" else self._finetune
            chain.append(make(cell, step, chain[0], chain[-1]))
        return tuple(chain)

    def _prune(self, cell: Cell, step: Any, model: Node, weights: Node) -> Node:
        parents = {"weights": weights}
        if step.profile.calibration is not None:
            parents["calibration"] = self.calibration(step.profile.calibration, model, cell.seed)
        settings = self.slices.prune(step.profile, cell.seed)
        label = f"{weights.label} > prune {step.name}".removeprefix("model ")
        return self.node("prune", label, settings, parents, _pruning_roots(step.profile))

    def _finetune(self, cell: Cell, step: Any, model: Node, weights: Node) -> Node:
        settings = self.slices.finetune(step.profile, cell.dataset, cell.seed)
        parents = {"weights": weights}
        trains = plugins.strategy_facts(step.profile.strategy)["TRAINS"]
        if trains:
            parents["data"] = self.data(cell.dataset)
        if step.profile.calibration is not None:
            parents["dense"] = _before_pruning(weights)
            parents["calibration"] = self.calibration(step.profile.calibration, model, cell.seed)
        stage = "finetune" if trains else "transform"
        label = f"{weights.label} > {stage} {step.name}".removeprefix("model ")
        roots = (f"prunegrid.finetuning.strategies.{step.profile.strategy}",)
        return self.node(stage, label, settings, parents, roots)

    def calibration(self, name: str, model: Node, seed: int | None) -> Node:
        """Return the node of calibration samples for a dense model."""
        profile = self.config.profile("calibration", name)
        parents = {"model": model, "data": self.data(profile.dataset)}
        label = f"{model.label.removeprefix('model ')} > calibrate {name}"
        return self.node("calibration", label, self.slices.calibration(name, seed), parents)

    @functools.cache  # noqa: B019
    def plans(self, study_name: str) -> list[CellPlan]:
        """Return the plan of every cell of a study."""
        return [self.plan(study_name, cell) for cell in expand(self.config, study_name)]

    def plan(self, study_name: str, cell: Cell) -> CellPlan:
        """Return the artifacts of one cell of a study."""
        chain = self.chain(cell)
        data = None if cell.dataset is None else self.data(cell.dataset)
        return CellPlan(cell, chain, data, **self.measures.of(study_name, cell, chain[-1]))

    @functools.cache  # noqa: B019
    def baselines(self, study_name: str) -> dict[tuple[str, str, str], tuple[Node, Node]]:
        """Return {(data set, baseline, split): (predictions, scores)} of a study."""
        study = self.config.profile("studies", study_name)
        found = {}
        if not study.evaluations:
            return found
        datasets = sorted({plan.cell.dataset for plan in self.plans(study_name)})
        for name in study.evaluations:
            evaluation = self.config.profile("evaluations", name)
            for baseline in getattr(evaluation, "baselines", {}):
                for dataset in datasets:
                    for split in evaluation.splits:
                        pair = self.measures.baseline(name, baseline, dataset, split)
                        found[dataset, baseline, split] = pair
        return found


def _pruning_roots(profile: Any) -> tuple[str, ...]:
    """Return the modules that a pruning step finds by name."""
    if profile.pattern == "structured":
        return (
            "prunegrid.pruning.structured.stage",
            f"prunegrid.pruning.structured.{profile.method}",
        )
    roots = [f"prunegrid.pruning.criteria.{profile.method}"]
    roots += [f"prunegrid.pruning.updates.{profile.update}"] if profile.update else []
    return (*roots, f"prunegrid.pruning.allocation.{profile.allocation}")


def _stored_dtype(weights: Node) -> str:
    """Return the dtype of the floats that weights are stored in (of packed ones, those beside)."""
    while weights.stage != "model":
        if weights.settings.get("precision") in NAMED:
            return weights.settings["precision"]
        weights = weights.parents["weights"]
    return weights.settings["dtype"]


def _before_pruning(weights: Node) -> Node:
    """Return the weights that the last prune steps were given; the weights themselves without."""
    while weights.stage == "prune":
        weights = weights.parents["weights"]
    return weights
