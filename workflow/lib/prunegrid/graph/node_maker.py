"""Nodes with their keys, each made once; those of models and data, which all others begin with."""

from __future__ import annotations

import functools
from pathlib import Path

from prunegrid.artifacts import keys
from prunegrid.common.precision import NAMED
from prunegrid.config.sources import NUMBERS, PROBE
from prunegrid.config.validated import Config
from prunegrid.graph.key_settings import Slices
from prunegrid.graph.nodes import RESULTS, WEIGHTS, Node, lineage, without_paths
from prunegrid.graph.stage_facts import stage_facts

ENV_FILE = Path("envs/models.yaml")
# The set-up of torch before any stage runs.
RUNTIME = "prunegrid.common.determinism"


class NodeMaker:
    """Makes nodes of a config; equal ones are one object.

    Args:
        root: the folder that holds `envs/`.
        results: the folder of their artifacts.
    """

    def __init__(self, config: Config, root: Path, results: Path = RESULTS) -> None:
        self.config, self.results = config, results
        self.pins = keys.read_pins(root / ENV_FILE)
        self.slices = Slices(config)
        self._nodes: dict[tuple[str, str], Node] = {}

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
            used: packages that they call; those that the environment does not pin do not count.
        """
        facts = stage_facts(stage)
        packages, computes = _packages(stage, parents)
        pins = self._pinned((*packages, *(name for name in used if name in self.pins)))
        roots = (f"prunegrid.stages.{stage}:run", RUNTIME, *facts.code, *roots)
        code = keys.code_digest(roots)
        compute_dtype = self._compute_dtype(stage, settings, parents) if computes else None
        identity = {
            "stage": stage,
            "settings": without_paths(settings),
            "parents": {role: parent.key for role, parent in parents.items()},
            "code": code,
            "pins": pins,
            "threads": self.config.threads if computes else None,
            "device": self.config.device if computes else None,
            "compute_dtype": compute_dtype,
        }
        key = keys.digest(identity)
        if (stage, key) not in self._nodes:
            self._nodes[stage, key] = Node(
                stage,
                label,
                settings,
                parents,
                roots=tuple(map(str, roots)),
                code=code,
                pins=pins,
                threads=self.config.threads,
                device=self.config.device if computes else "cpu",
                compute_dtype=compute_dtype,
                memory=self.config.memory,
                training=self.config.training,
                key=key,
                results=self.results,
            )
        return self._nodes[stage, key]

    def _compute_dtype(self, stage: str, settings: dict, parents: dict[str, Node]) -> str:
        """Return the precision of a step's products.

        Training has a setting for it. Elsewhere it follows the weights: those stored in float32
        are computed in float32, those in bfloat16 in the precision that the device is fast in. A
        metric's model is always read in float32 (`metrics.bertscore`).
        """
        if stage_facts(stage).metrics:
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
        if profile.mixture is None:
            stage = "numbers" if profile.source == NUMBERS else "data"
            return self.node(stage, f"data {name}", self.slices.data(name), {})
        settings, members = self.slices.mixture(name)
        parents = {role: self.part(*member) for role, member in members.items()}
        return self.node("mixture", f"mixture {name}", settings, parents)

    @functools.cache  # noqa: B019
    def part(self, name: str, *splits: str) -> Node:
        """Return the node of some splits of a data set; of items, no other is fetched.

        Without splits it is that of the whole data set.
        """
        profile = self.config.profile("datasets", name)
        if not splits or not profile.has_items:
            return self.data(name)
        stage, roots, settings = profile.kind, (), self.slices.rows(name, splits)
        if profile.source.startswith(PROBE):
            stage, roots = "probe", (f"prunegrid.data.probes.{settings['source']['name']}:items",)
        return self.node(stage, f"data {name} {' '.join(splits)}", settings, {}, roots)

    def calibration(self, name: str, model: Node, seed: int | None) -> Node:
        """Return the node of calibration samples for a dense model."""
        profile = self.config.profile("calibration", name)
        parents = {"model": model, "data": self.data(profile.dataset)}
        label = f"{model.label.removeprefix('model ')} > calibrate {name}"
        return self.node("calibration", label, self.slices.calibration(name, seed), parents)


def _packages(stage: str, parents: dict[str, Node]) -> tuple[tuple[str, ...], bool]:
    """Return the packages that a step's bytes depend on, and whether it computes with torch.

    A metric with a model depends on the packages that run one.
    """
    facts = stage_facts(stage)
    if facts.metrics and any(parent.stage == "model" for parent in parents.values()):
        return stage_facts("calibration").packages, True
    return facts.packages, facts.computes


def _stored_dtype(weights: Node) -> str:
    """Return the stored dtype of the floats among weights; of packed ones, those beside them."""
    for node in lineage(weights):
        if node.settings.get("precision") in NAMED:
            return node.settings["precision"]
    return node.settings["dtype"]
