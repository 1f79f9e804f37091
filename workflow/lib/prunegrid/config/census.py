"""Studies of kind `census`: a grid of models, and of what is done to them, to be counted."""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from prunegrid.config.profile import Profile

DECADES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]


class Census(Profile):
    """A grid of cells whose weights are counted by their size; nothing is evaluated.

    Attributes:
        dataset: of steps that train; None where none does.
        edges: of the bins; zeros are below the first, and the last bin has no upper end.
        zeros: `apart`, a bin of their own, or `within` the first one, as histograms count them.
        embeddings: whether tables of embeddings are counted (and told apart), or left out.
    """

    kind: Literal["census"]
    title: str = ""
    dataset: str | None = None
    grid: dict[str, Any] | list[dict[str, Any]]
    include: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []
    edges: Annotated[list[float], Field(min_length=1)] = DECADES
    zeros: Literal["apart", "within"] = "apart"
    embeddings: bool = True

    # What a study of evaluations has besides.
    evaluations: ClassVar[tuple] = ()
    efficiency: ClassVar[None] = None
    timed: ClassVar[None] = None
    expected: ClassVar[tuple] = ()
    contrasts: ClassVar[tuple] = ()
    cliffs: ClassVar[tuple] = ()
    show: ClassVar[tuple] = ()

    @field_validator("edges")
    @classmethod
    def _ascending(cls, edges: list[float]) -> list[float]:
        if edges[0] <= 0 or not math.isfinite(edges[-1]):
            raise ValueError(f"is {edges}; expected finite numbers above 0")
        if any(a >= b for a, b in itertools.pairwise(edges)):
            raise ValueError(f"is {edges}; each must be above the one before")
        return edges
