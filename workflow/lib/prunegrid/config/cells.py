"""A cell of a study: a model, a data set, a list of steps and a seed."""

from __future__ import annotations

import functools
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
        """Whether the step leaves its model as it is (dense, none)."""
        return (
            getattr(self.profile, "method", "") == "dense"
            or getattr(self.profile, "strategy", "") == "none"
        )

    @functools.cached_property
    def identity(self) -> tuple[str, str, str]:
        """What tells it from other steps: kind, name and settings."""
        return (self.kind, self.name, self.profile.model_dump_json())

    @functools.cached_property
    def draws(self) -> bool:
        """Whether the seed reaches the step: it samples, shuffles or initialises."""
        if self.idle:
            return False
        if self.kind == "finetune":
            trains = plugins.strategy_facts(self.profile.strategy)["TRAINS"]
            return trains or self.profile.calibration is not None
        return self.profile.calibration is not None or plugins.draws(
            self.profile.method, self.profile.pattern
        )


Chain = tuple[Step, ...]
# What a table calls a cell without a step of a kind.
WITHOUT = {"prune": "dense", "finetune": "none"}


@dataclass(frozen=True)
class Cell:
    """One row of a study's table.

    Attributes:
        model: name of a model profile.
        dataset: name of the data set that it is tuned and evaluated on; None in a study that
            needs none.
        steps: what is done to the model, in order.
        seed: the seed that reaches it; None where no step draws.
        arm: the arms of an iterated grid that it is a point of, joined by '+'; None elsewhere.
    """

    model: str
    dataset: str | None
    steps: tuple[Step, ...]
    seed: int | None
    arm: str | None = None

    def names(self, kind: str) -> str:
        """Return the names of its steps of one kind, joined by '+', idle ones left out."""
        steps = [step for step in self.steps if step.kind == kind]
        acting = [step for step in steps if not step.idle]
        return "+".join(step.name for step in acting or steps[:1]) or WITHOUT[kind]

    def identity(self) -> tuple:
        """Return what tells it from the other cells of its study: steps that do nothing do not."""
        steps = tuple(step.identity for step in self.steps if not step.idle)
        return (self.model, self.dataset, steps, self.seed)

    def joined(self, other: Cell) -> Cell:
        """Return the cell as a point of another's arms too."""
        arms = [arm for cell in (self, other) if cell.arm for arm in cell.arm.split("+")]
        return replace(self, arm="+".join(dict.fromkeys(arms)) or None)
