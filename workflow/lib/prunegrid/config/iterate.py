"""The grid axis `iterate`: several ways (arms) from a dense model to each of some sparsities.

With p_k the pruning to the k-th sparsity and t a fine-tuning of a budget of b tokens:

    one-shot         p_k, and the dense model before them
    one-shot-tuned   p_k, then a tuning of k·b tokens
    iterative        p_1, t, p_2, t, …, p_k, t: each prunes what the one before tuned
    dense-tuned      a tuning of k·b tokens alone, to tell the effect of the text from that of
                     pruning

At each sparsity all tuned arms have spent the same tokens (up to one optimizer step a tuning). The
chain of k begins that of k + 1, so a longer list extends what is there. A chain that belongs to two
arms is one cell of both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from prunegrid.config import ranges
from prunegrid.config.cells import Chain, Step
from prunegrid.config.profile import Profile

# Decimals that a schedule is rounded to: names of steps are made of them.
DECIMALS = 4
ARMS = ("one-shot", "one-shot-tuned", "iterative", "dense-tuned")


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


class Iterate(Profile):
    """Rising sparsities by several arms.

    Attributes:
        prune: an inline prune profile without its sparsity, or several.
        sparsities: a rising list, a range, or a schedule.
        finetune: a fine-tune profile. Its token budget is that of each step of the iteration;
            one-shot-tuned and dense-tuned need one.
        arms: which of the arms above.
    """

    prune: dict[str, Any] | list[dict[str, Any]]
    sparsities: Annotated[list[float] | Schedule, BeforeValidator(ranges.unrolled)]
    finetune: str | None = None
    arms: Annotated[list[Literal[ARMS]], Field(min_length=1)] = list(ARMS)

    @model_validator(mode="after")
    def _whole(self) -> Iterate:
        levels = self.levels
        if not levels or not all(0 < s < 1 for s in levels):
            text = f"sparsities is {levels}; expected sparsities between 0 and 1"
            shares = [level / 100 if 1 < level < 100 else level for level in levels]
            raise ValueError(text + (f"; did you mean {shares}?" if shares != levels else ""))
        if any(a >= b for a, b in itertools.pairwise(levels)):
            raise ValueError(f"sparsities is {levels}; each must be above the one before")
        if self.finetune is None and set(self.arms) != {"one-shot"}:
            raise ValueError("`finetune` is missing: every arm but one-shot tunes")
        for body in self.prunes:
            if "sparsity" in body or body.get("pattern", "structured") != "structured":
                raise ValueError("`prune` takes its sparsity from `sparsities`; remove it there")
        return self

    @property
    def levels(self) -> list[float]:
        """Return the sparsities, in their order."""
        given = self.sparsities
        return given if isinstance(given, list) else given.sparsities()

    @property
    def prunes(self) -> list[dict[str, Any]]:
        """Return the prune profiles."""
        return self.prune if isinstance(self.prune, list) else [self.prune]

    def chains(
        self, prunings: Sequence[Sequence[Step]], tuning: Callable[[int], Step]
    ) -> list[tuple[str, Chain]]:
        """Return (arm, chain) of every point.

        Args:
            prunings: for each prune profile (or variant of one) its step at each sparsity.
            tuning: k → the fine-tuning of k budgets.
        """
        return [(arm, chain) for arm in self.arms for chain in _CHAINS[arm](prunings, tuning)]


def _one_shot(prunings, _) -> list[Chain]:
    return [(), *((step,) for steps in prunings for step in steps)]


def _one_shot_tuned(prunings, tuning) -> list[Chain]:
    return [(step, tuning(k)) for steps in prunings for k, step in enumerate(steps, start=1)]


def _iterative(prunings, tuning) -> list[Chain]:
    pairs = [[(step, tuning(1)) for step in steps] for steps in prunings]
    return [chain for steps in pairs for chain in itertools.accumulate(steps)]


def _dense_tuned(prunings, tuning) -> list[Chain]:
    most = max(map(len, prunings), default=0)
    return [(tuning(k),) for k in range(1, most + 1)]


_CHAINS = {
    "one-shot": _one_shot,
    "one-shot-tuned": _one_shot_tuned,
    "iterative": _iterative,
    "dense-tuned": _dense_tuned,
}
