"""Nodes that measure a cell's weights and change none: the sources of a table's rows."""

from __future__ import annotations

from typing import Any, NamedTuple

from prunegrid.artifacts.parts import part_folder
from prunegrid.config.cells import Cell
from prunegrid.config.evaluations.kind import PERPLEXITIES, TASKS, TEXTS, Asked
from prunegrid.graph.node_maker import NodeMaker
from prunegrid.graph.nodes import Node, lineage


class Part(NamedTuple):
    """The source of one score: an artifact, or one of the folders in it.

    Attributes:
        node: the artifact's node.
        folder: the folder in it; "" is the artifact itself.
    """

    node: Node
    folder: str = ""

    @property
    def ref(self) -> dict[str, str]:
        """Return the entry in a table's plan."""
        return {**self.node.ref, "folder": self.folder}


class EvaluationNodes(NodeMaker):
    """Makes the nodes that read weights and change none."""

    def measures(self, study_name: str, cell: Cell, weights: Node) -> dict[str, Any]:
        """Return a cell's texts, perplexities, tasks, efficiency and census, as its plan has them.

        An evaluation that does not fit the family of the cell's model is left out.
        """
        study = self.config.profile("studies", study_name)
        task = self.config.profile("models", cell.model).task
        results: dict[str, dict[str, Any]] = {TEXTS: {}, PERPLEXITIES: {}, TASKS: {}}
        for name in study.evaluations:
            evaluation = self.config.profile("evaluations", name)
            if task in evaluation.FITS:
                for asked in evaluation.asks(self.config, name, cell):
                    results[asked.form] |= self._asked(asked, weights)
        times, counts = study.times(cell), study.kind == "census"
        return {
            **results,
            "efficiency": self._efficiency(study.efficiency, weights) if times else None,
            "census": self._census(study_name, weights) if counts else None,
        }

    def _measure(
        self, stage: str, does: str, weights: Node, settings: dict, **parents: Node
    ) -> Node:
        label = f"{weights.label.removeprefix('model ')} > {does}"
        return self.node(stage, label, settings, {"weights": weights, **parents})

    def _asked(self, asked: Asked, weights: Node) -> dict[str, Any]:
        """Return {name in the table: its source} of one artifact that an evaluation asks for."""
        node = self._answered(asked, weights)
        if asked.scored is not None:
            return dict.fromkeys(asked.names, (node, self._scores(*asked.scored, node)))
        if asked.form == TASKS:
            return {name: Part(node, folder) for name, folder in asked.names.items()}
        return dict.fromkeys(asked.names, node)

    def _answered(self, asked: Asked, weights: Node) -> Node:
        """Return the node of what an evaluation asks of some weights."""
        parents = {role: self.part(name, *splits) for role, (name, splits) in asked.data.items()}
        *_, dense = lineage(weights)
        if asked.reads is not None:
            parents["answers"] = self._answered(asked.reads, weights)
        if asked.beside_dense and dense is not weights:
            parents["dense"] = self._answered(asked.reads, dense) if asked.reads else dense
        return self._measure(asked.stage, asked.does, weights, dict(asked.settings), **parents)

    def _efficiency(self, name: str, weights: Node) -> Node:
        """Return the node that times weights, beside the untouched model if they are others."""
        stage = "passes" if self.config.profile("efficiency", name).passes else "efficiency"
        *_, dense = lineage(weights)
        beside = {} if dense is weights else {"dense": dense}
        return self._measure(stage, stage, weights, self.slices.efficiency(name), **beside)

    def _census(self, study_name: str, weights: Node) -> Node:
        """Return the node that counts weights by their size."""
        return self._measure("census", "census", weights, self.slices.census(study_name))

    def written_controls(self, name: str, dataset: str, split: str) -> dict[str, Part]:
        """Return {control: its part} of the node that writes an evaluation's controls."""
        settings, models, roots, packages = self.slices.controls(name, dataset, split)
        parents = {"data": self.data(dataset), **self._metric_models(models)}
        label = f"{dataset} > {name} {split}"
        node = self.node("controls", label, settings, parents, roots, packages)
        baselines = self.config.profile("evaluations", name).baselines
        return {
            control: Part(node, part_folder(place, profile.method))
            for place, (control, profile) in enumerate(baselines.items())
        }

    def _scores(self, metrics: list[str], dataset: str, split: str, predictions: Node) -> Node:
        """Return the node that scores predictions of a split by metrics."""
        settings, models, roots, packages = self.slices.scores(metrics, dataset, split)
        parents = {"predictions": predictions}
        parents |= {"data": self.data(dataset)} if "split" in settings else {}
        parents |= self._metric_models(models)
        label = predictions.label.replace("generate", "score")
        return self.node("scores", label, settings, parents, roots, packages)

    def _metric_models(self, models: dict[str, str]) -> dict[str, Node]:
        """Return {role: model} of the metrics that have one."""
        return {f"{metric}.model": self.model(name) for metric, name in models.items()}
