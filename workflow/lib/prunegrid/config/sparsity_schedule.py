"""Rising sparsities, a list or a schedule, and the grid axis that goes through them."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from prunegrid.config.profile import Profile

# Decimals that a schedule is rounded to: names of steps are made of them.
DECIMALS = 4


class Schedule(Profile):
    """Steps from dense to a sparsity.

    `linear`: s_k = to · k/n. `cubic`: s_k = to · (1 - (1 - k/n)³), which prunes most while much is
    left (Zhu and Gupta 2017, arXiv 1710.01878, eq. 1, from 0). k = 1 … n; rounded to 4 decimals.
    """

    shape: Literal["linear", "cubic"]
    to: Annotated[float, Field(gt=0, lt=1)]
    steps: Annotated[int, Field(ge=1, le=1000)]

    def sparsities(self) -> list[float]:
        """Return the sparsity of each step."""
        shares = [k / self.steps for k in range(1, self.steps + 1)]
        if self.shape == "cubic":
            shares = [1 - (1 - share) ** 3 for share in shares]
        return [round(self.to * share, DECIMALS) for share in shares]


def fault_of(sparsities: list[float]) -> str:
    """Return what is wrong with a list of sparsities; empty where nothing is."""
    if not sparsities or not all(0 < s < 1 for s in sparsities):
        return f"is {sparsities}; expected sparsities between 0 and 1"
    if any(a >= b for a, b in itertools.pairwise(sparsities)):
        return f"is {sparsities}; each must be above the one before"
    return ""


ARMS = ("one-shot", "one-shot-tuned", "iterative", "dense-tuned")


class Iterate(Profile):
    """The grid axis `iterate`: one pruning over rising sparsities, by several arms.

    Attributes:
        prune: an inline prune profile without its sparsity, or several.
        sparsities: a rising list, or a schedule.
        finetune: a fine-tune profile. Its token budget is that of each step of the iteration; it
            must have one where an arm is equal by it (one-shot-tuned, dense-tuned).
        arms: see `prunegrid.config.arms`.
    """

    prune: dict[str, Any] | list[dict[str, Any]]
    sparsities: list[float] | Schedule
    finetune: str | None = None
    arms: Annotated[list[Literal[ARMS]], Field(min_length=1)] = list(ARMS)

    @model_validator(mode="after")
    def _whole(self) -> Iterate:
        fault = fault_of(self.levels)
        if fault:
            raise ValueError(f"sparsities {fault}")
        if self.finetune is None and set(self.arms) != {"one-shot"}:
            raise ValueError("`finetune` is missing: every arm but one-shot tunes")
        for body in self.prunes:
            if "sparsity" in body or body.get("pattern", "structured") != "structured":
                raise ValueError("`prune` takes its sparsity from `sparsities`; remove it there")
        return self

    @property
    def levels(self) -> list[float]:
        """The sparsities, in their order."""
        given = self.sparsities
        return given if isinstance(given, list) else given.sparsities()

    @property
    def prunes(self) -> list[dict[str, Any]]:
        """The prune profiles."""
        return self.prune if isinstance(self.prune, list) else [self.prune]
