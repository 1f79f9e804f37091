"""A cell of a study: a model, a data set, a list of steps and a seed."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prunegrid.common import plugins


@dataclass(frozen=True)
class Step:
    """One step over a model.

    Attributes:
        kind: "prune" or "finetune".
        name: the profile's name, or the one made for an inline profile.
        profile: its settings.
        inline: whether it stands in the grid itself.
    """

    kind: str
    name: str
    profile: Any
    inline: bool = False

    @functools.cached_property
    def idle(self) -> bool:
        """Return whether the step leaves its model as it is (dense, none)."""
        return (
            getattr(self.profile, "method", "") == "dense"
            or getattr(self.profile, "strategy", "") == "none"
        )

    @functools.cached_property
    def identity(self) -> tuple[str, str, str]:
        """Return kind, name and settings, which tell the step from others."""
        return (self.kind, self.name, self.profile.model_dump_json())

    @functools.cached_property
    def trains(self) -> bool:
        """Return whether the step learns from the cell's data set."""
        return self.kind == "finetune" and plugins.strategy_facts(self.profile.strategy)["TRAINS"]

    @functools.cached_property
    def draws(self) -> bool:
        """Return whether the seed reaches the step: it samples, shuffles or initialises."""
        if self.idle:
            return False
        if self.trains or self.profile.calibration is not None:
            return True
        return self.kind == "prune" and plugins.draws(self.profile.method, self.profile.pattern)


Chain = tuple[Step, ...]
# The name in a table of a cell that has no step of a kind.
WITHOUT = {"prune": "dense", "finetune": "none"}


@dataclass(frozen=True)
class Cell:
    """One row of a study's table.

    Attributes:
        model: name of a model profile.
        dataset: name of the data set that it is tuned and evaluated on; None in a study that
            needs none.
        steps: the changes of the model, in order.
        seed: the seed that reaches it; None if no step draws.
        arm: the arms of an iterated grid that it is a point of, joined by '+'; None elsewhere.
    """

    model: str
    dataset: str | None
    steps: Chain
    seed: int | None
    arm: str | None = None

    @functools.cached_property
    def acting(self) -> Chain:
        """Return the steps that change weights."""
        return tuple(step for step in self.steps if not step.idle)

    def names(self, kind: str) -> str:
        """Return the names of its acting steps of one kind, joined by '+'."""
        steps = [step for step in self.steps if step.kind == kind]
        acting = [step for step in steps if not step.idle]
        return "+".join(step.name for step in acting or steps[:1]) or WITHOUT[kind]

    @functools.cached_property
    def facts(self) -> Mapping[str, Any]:
        """Return {axis: value} of everything that a selector may name."""
        return {
            "model": self.model,
            "dataset": self.dataset,
            "prune": self.names("prune"),
            "finetune": self.names("finetune"),
            "seed": self.seed,
        }

    def matches(self, wanted: Mapping[str, Any]) -> bool:
        """Return whether the cell has a wanted value (or one of a list) on each wanted axis."""
        facts = self.facts
        return all(facts[k] in (v if isinstance(v, list) else [v]) for k, v in wanted.items())

    def identity(self) -> tuple:
        """Return what tells the cell from the others of its study; idle steps do not."""
        return (self.model, self.dataset, tuple(s.identity for s in self.acting), self.seed)

    def joined(self, other: Cell) -> Cell:
        """Return the cell as a point of another's arms too."""
        arms = [arm for cell in (self, other) if cell.arm for arm in cell.arm.split("+")]
        return replace(self, arm="+".join(dict.fromkeys(arms)) or None)
