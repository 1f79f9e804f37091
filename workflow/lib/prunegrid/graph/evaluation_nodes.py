"""What is measured of a cell's weights: the nodes that the rows of a table are read from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from prunegrid.artifacts.parts import part_folder
from prunegrid.config.cells import Cell
from prunegrid.config.families import fits
from prunegrid.config.selectors import is_timed
from prunegrid.graph.node_maker import NodeMaker
from prunegrid.graph.nodes import Node


class Part(NamedTuple):
    """What a table reads as one score: an artifact, or one of the folders in it.

    Attributes:
        node: that of the artifact.
        folder: in it; "" is the artifact itself.
        holds: the task of a benchmark or the method of a control that is in the folder.
    """

    node: Node
    folder: str = ""
    holds: str = ""

    @property
    def ref(self) -> dict[str, str]:
        """What a table's plan says of it."""
        return {**self.node.ref, "folder": self.folder}


class Measures:
    """Makes the nodes that read weights and change none.

    Args:
        graph: makes nodes, those of models and data too.
    """

    def __init__(self, graph: NodeMaker) -> None:
        self.graph, self.config, self.slices = graph, graph.config, graph.slices

    def of(self, study_name: str, cell: Cell, weights: Node) -> dict[str, Any]:
        """Return a cell's texts, perplexities, tasks, efficiency and census, as its plan has them.

        An evaluation that does not fit the family of the cell's model is left out.
        """
        study = self.config.profile("studies", study_name)
        texts, perplexities, tasks = {}, {}, {}
        for name in study.evaluations:
            evaluation = self.config.profile("evaluations", name)
            if not fits(evaluation, self.config.profile("models", cell.model).task):
                continue
            if evaluation.kind == "classification":
                tasks[name] = Part(self.classification(name, weights))
            elif evaluation.kind == "tasks":
                node = self.tasks(name, weights)
                asked = [task["task"] for task in node.settings["tasks"]]
                tasks |= _parts(node, evaluation.tasks, asked)
            elif evaluation.kind == "perplexity":
                perplexities[name] = self.perplexity(name, weights)
            elif evaluation.kind == "translation":
                texts[name] = self.translation(name, cell.seed, weights)
            else:
                texts |= {
                    split: self.text(name, cell, split, weights) for split in evaluation.splits
                }
        efficiency = None
        if study.efficiency and is_timed(study, cell):
            efficiency = self.efficiency(study.efficiency, weights)
        census = self.census(study_name, weights) if study.kind == "census" else None
        return {
            "texts": texts,
            "perplexities": perplexities,
            "tasks": tasks,
            "efficiency": efficiency,
            "census": census,
        }

    def _node(self, stage: str, does: str, weights: Node, settings: dict, **parents: Node) -> Node:
        label = f"{weights.label.removeprefix('model ')} > {does}"
        return self.graph.node(stage, label, settings, {"weights": weights, **parents})

    def text(self, name: str, cell: Cell, split: str, weights: Node) -> tuple[Node, Node]:
        """Return the nodes that let weights write for a split of the cell's data, and score it."""
        settings = self.slices.predictions(name, cell.dataset, split, cell.seed)
        data = self.graph.data(cell.dataset)
        made = self._node("predictions", f"generate {split}", weights, settings, data=data)
        return made, self.scores(name, made, cell.dataset, split)

    def translation(self, name: str, seed: int | None, weights: Node) -> tuple[Node, Node]:
        """Return the nodes that let weights translate a split, and score it."""
        evaluation = self.config.profile("evaluations", name)
        data = self.graph.data(evaluation.dataset)
        settings = self.slices.translation(name, seed)
        made = self._node("translations", f"generate {name}", weights, settings, data=data)
        return made, self.scores(name, made, evaluation.dataset, evaluation.split)

    def perplexity(self, name: str, weights: Node) -> Node:
        """Return the node that lets weights read a text."""
        data = self.graph.data(self.config.profile("evaluations", name).dataset)
        return self._node("perplexity", name, weights, self.slices.perplexity(name), data=data)

    def tasks(self, name: str, weights: Node) -> Node:
        """Return the node that asks weights all benchmarks of an evaluation."""
        data = {}
        for place, task in enumerate(self.config.profile("evaluations", name).tasks):
            profile = self.config.profile("tasks", task)
            splits = filter(None, (profile.split, profile.shots_from))
            data[f"data.{place}"] = self.graph.part(profile.dataset, *splits)
        return self._node("tasks", name, weights, self.slices.tasks(name), **data)

    def classification(self, name: str, weights: Node) -> Node:
        """Return the node that tunes a head on weights, and asks it."""
        profile = self.config.profile("evaluations", name)
        data = self.graph.part(profile.dataset, profile.learn, profile.split)
        settings = self.slices.classification(name)
        return self._node("classification", name, weights, settings, data=data)

    def efficiency(self, name: str, weights: Node) -> Node:
        """Return the node that times weights, beside the untouched model where they are others."""
        stage = "passes" if self.config.profile("efficiency", name).passes else "efficiency"
        dense = _untouched(weights)
        beside = {} if dense is weights else {"dense": dense}
        return self._node(stage, stage, weights, self.slices.efficiency(name), **beside)

    def census(self, study_name: str, weights: Node) -> Node:
        """Return the node that counts weights by their size."""
        return self._node("census", "census", weights, self.slices.census(study_name))

    def controls(self, name: str, dataset: str, split: str) -> dict[str, Part]:
        """Return {control: its part} of the node that writes an evaluation's controls."""
        settings, models, roots, packages = self.slices.controls(name, dataset, split)
        parents = {"data": self.graph.data(dataset), **self._metric_models(models)}
        label = f"{dataset} > {name} {split}"
        node = self.graph.node("controls", label, settings, parents, roots, packages)
        methods = [control["method"] for control in settings["controls"]]
        return _parts(node, self.config.profile("evaluations", name).baselines, methods)

    def scores(self, evaluation_name: str, predictions: Node, dataset: str, split: str) -> Node:
        """Return the node that scores predictions by the metrics of an evaluation."""
        evaluation = self.config.profile("evaluations", evaluation_name)
        settings, models, roots, packages = self.slices.scores(evaluation.metrics, dataset, split)
        parents = {"predictions": predictions}
        parents |= {"data": self.graph.data(dataset)} if "split" in settings else {}
        parents |= self._metric_models(models)
        label = predictions.label.replace("generate", "score")
        return self.graph.node("scores", label, settings, parents, roots, packages)

    def _metric_models(self, models: dict[str, str]) -> dict[str, Node]:
        """Return {role: model} of the metrics that have one."""
        return {f"{metric}.model": self.graph.model(name) for metric, name in models.items()}


def _parts(node: Node, names: Iterable[str], held: list[str]) -> dict[str, Part]:
    """Return {name in the config: part of the artifact}, given what each part holds, in order."""
    parts = [Part(node, part_folder(place, one), one) for place, one in enumerate(held)]
    return dict(zip(names, parts, strict=True))


def _untouched(weights: Node) -> Node:
    """Return the model that a chain begins with."""
    while weights.stage != "model":
        weights = weights.parents["weights"]
    return weights
