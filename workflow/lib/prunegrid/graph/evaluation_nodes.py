"""What is measured of a cell's weights: the nodes that the rows of a table are read from."""

from __future__ import annotations

from typing import Any, NamedTuple

from prunegrid.artifacts.parts import part_folder
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import PERPLEXITIES, TASKS, TEXTS, Asked
from prunegrid.graph.node_maker import NodeMaker
from prunegrid.graph.nodes import Node


class Part(NamedTuple):
    """What a table reads as one score: an artifact, or one of the folders in it.

    Attributes:
        node: that of the artifact.
        folder: in it; "" is the artifact itself.
    """

    node: Node
    folder: str = ""

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
        found: dict[str, dict[str, Any]] = {TEXTS: {}, PERPLEXITIES: {}, TASKS: {}}
        for name in study.evaluations:
            evaluation = self.config.profile("evaluations", name)
            if self.config.profile("models", cell.model).task in evaluation.FITS:
                for asked in evaluation.asks(self.config, name, cell):
                    found[asked.form] |= self._asked(asked, weights)
        efficiency = None
        if study.times(cell):
            efficiency = self.efficiency(study.efficiency, weights)
        census = self.census(study_name, weights) if study.kind == "census" else None
        return {
            **found,
            "efficiency": efficiency,
            "census": census,
        }

    def _node(self, stage: str, does: str, weights: Node, settings: dict, **parents: Node) -> Node:
        label = f"{weights.label.removeprefix('model ')} > {does}"
        return self.graph.node(stage, label, settings, {"weights": weights, **parents})

    def _asked(self, asked: Asked, weights: Node) -> dict[str, Any]:
        """Return {name in the table: what it is read from} of one artifact that is asked for."""
        data = {role: self.graph.part(name, *splits) for role, (name, splits) in asked.data.items()}
        node = self._node(asked.stage, asked.does, weights, dict(asked.settings), **data)
        if asked.scored is not None:
            return dict.fromkeys(asked.names, (node, self.scores(*asked.scored, node)))
        if asked.form == TASKS:
            return {name: Part(node, folder) for name, folder in asked.names.items()}
        return dict.fromkeys(asked.names, node)

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
        return {
            control: Part(node, part_folder(place, methods[place]))
            for place, control in enumerate(self.config.profile("evaluations", name).baselines)
        }

    def scores(self, metrics: list[str], dataset: str, split: str, predictions: Node) -> Node:
        """Return the node that scores predictions of a split by metrics."""
        settings, models, roots, packages = self.slices.scores(metrics, dataset, split)
        parents = {"predictions": predictions}
        parents |= {"data": self.graph.data(dataset)} if "split" in settings else {}
        parents |= self._metric_models(models)
        label = predictions.label.replace("generate", "score")
        return self.graph.node("scores", label, settings, parents, roots, packages)

    def _metric_models(self, models: dict[str, str]) -> dict[str, Node]:
        """Return {role: model} of the metrics that have one."""
        return {f"{metric}.model": self.graph.model(name) for metric, name in models.items()}


def _untouched(weights: Node) -> Node:
    """Return the model that a chain begins with."""
    while weights.stage != "model":
        weights = weights.parents["weights"]
    return weights
