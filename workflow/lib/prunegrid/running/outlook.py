"""How long the steps that a run would make will take together: one figure for all commands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from prunegrid.common import machine
from prunegrid.common.durations import roughly
from prunegrid.graph.nodes import Node
from prunegrid.graph.stage_facts import stage_facts
from prunegrid.running import history, resources


@dataclass(frozen=True)
class Outlook:
    """What is expected of steps.

    Attributes:
        seconds: {step: its seconds}.
        is_guess: whether most of these seconds come from the formula: no step alike has finished.
        experience: what was seen of finished steps when it was made.
    """

    seconds: Mapping[Node, float]
    is_guess: bool
    experience: history.Experience | None = None

    def together(self, cores: int | None = None) -> float:
        """Return the seconds until all are done side by side; `cores` defaults to the machine's."""
        return together(self.seconds, cores or machine.cores())

    def of_data(self) -> set[str]:
        """Return the keys of the data sets that its steps read: their rows decide the seconds."""
        return {n.parents["data"].key for n in self.seconds if "data" in n.parents}

    def revised(self) -> Outlook:
        """Return the outlook on the same steps, by the rows of the data that were read since."""
        return expected(self.seconds, self.experience)

    def text(self, cores: int | None = None) -> str:
        """Return that in words, and whether it is a guess."""
        about = f"about {roughly(self.together(cores))}"
        return f"{about}, a first guess" if self.is_guess else about


def expected(todo: Iterable[Node], experience: history.Experience) -> Outlook:
    """Return what is expected of the steps that a run would make, by what was seen so far.

    A formula's seconds are multiplied by the pace of the finished steps.
    """
    seconds, guessed = {}, 0.0
    for node in todo:
        step, _ = resources.planned_step(node)
        estimate = experience.estimate(step)
        pace = experience.pace if estimate.basis == "formula" else 1.0
        seconds[node] = estimate.seconds * pace
        guessed += seconds[node] if estimate.basis == "formula" else 0.0
    return Outlook(seconds, 2 * guessed > sum(seconds.values()), experience)


def together(seconds: Mapping[Node, float], cores: int) -> float:
    """Return the seconds that steps take on some cores, with nothing beside a timing.

    It is the time in which the cores could do all of it, or that of the longest chain of steps.
    """
    ends: dict[Node, float] = {}
    work = 0.0
    for node, own in seconds.items():  # parents stand before their children
        before = (ends.get(parent, 0.0) for parent in node.parents.values())
        ends[node] = max(before, default=0.0) + own
        work += own * min(_cores(node, cores), cores) / cores
    return max(work, *ends.values()) if ends else 0.0


def _cores(node: Node, cores: int) -> int:
    """Return the cores that a step takes (`rule_values.RuleValues.threads`)."""
    if stage_facts(node.stage).measures_memory:
        return cores
    return node.settings.get("processes", 1) * (node.threads if "torch" in node.pins else 1)
