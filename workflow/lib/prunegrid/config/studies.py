"""Studies: grids of cells that are evaluated, or whose weights are counted (`census`)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from prunegrid.config.cells import Cell
from prunegrid.config.profile import Name, NonNegative, Profile, Rate

DECADES = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]


class Side(Profile):
    """One side of a contrast: the cells (that differ by their seeds alone) that have all of it."""

    model: str | None = None
    dataset: str | None = None
    prune: str | None = None
    finetune: str | None = None
    seed: NonNegative | list[NonNegative] | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Side:
        if not self.wanted or None in self.wanted.values():
            raise ValueError("name some of model, dataset, prune, finetune, seed")
        return self

    @property
    def wanted(self) -> dict[str, Any]:
        """Return {axis: value} as the config has it."""
        return self.model_dump(exclude_unset=True)

    def chosen(self, cells: Sequence[Cell]) -> list[Cell]:
        """Return the cells of this side."""
        wanted = self.wanted
        return [cell for cell in cells if cell.matches(wanted)]


class Contrast(Profile):
    """Two cells of a study whose difference is tested, with a verdict on `a`."""

    name: Name
    a: Side
    b: Side
    split: str
    metric: str | None = None
    margin: Rate | None = None


class Cliff(Profile):
    """A score whose cliff is sought: the highest sparsity non-inferior to dense by a margin."""

    split: str
    metric: str | None = None
    margin: Rate


class Expected(Profile):
    """A value that a study's cells are known to have; the table fails if they differ.

    Where the cells are the untouched model it is the study's anchor: if it differs, the table
    begins with it, and no contrast has a verdict.
    """

    cells: dict[str, Any]
    column: str
    value: float
    within: Annotated[float, Field(gt=0)]
    source: str


class Published(Profile):
    """Rows that others have published: shown below the table, marked as unattested."""

    source: str
    rows: Annotated[list[dict[str, float | str | None]], Field(min_length=1)]

    @field_validator("rows")
    @classmethod
    def _named(cls, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            if not isinstance(row.get("name"), str) or len(row) < 2:
                raise ValueError(f"holds {row}; expected a `name` and values by metric")
        return rows


class Study(Profile):
    """A grid of cells and what is measured on each."""

    kind: Literal["evaluations", "census"] = "evaluations"  # a census is `Census`
    title: str = ""
    dataset: str
    grid: dict[str, Any] | list[dict[str, Any]]
    include: list[dict[str, Any]] = []
    exclude: list[dict[str, Any]] = []
    evaluations: Annotated[list[str], Field(min_length=1)]
    efficiency: str | None = None
    timed: Annotated[list[Side], Field(min_length=1)] | None = None
    expected: list[Expected] = []
    published: Published | None = None
    contrasts: Annotated[list[Contrast], Field(max_length=8)] = []
    cliffs: list[Cliff] = []
    show: list[str] = []

    def times(self, cell: Cell) -> bool:
        """Return whether the study times a cell: all with `efficiency`, or those of `timed`."""
        if self.efficiency is None:
            return False
        return self.timed is None or any(side.chosen([cell]) for side in self.timed)


class Census(Profile):
    """A grid of cells whose weights are counted by their size; nothing is evaluated.

    Attributes:
        dataset: of steps that train; None if none does.
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

    # A census has none of these, which only studies of evaluations have.
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

    def times(self, cell: Cell) -> bool:
        """Return False: a census times nothing."""
        return False
