"""What a part of the page may read, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas

from prunegrid.tables.examples import Scored
from prunegrid.tables.groups import Group
from prunegrid.tables.schema import Plan


@dataclass(frozen=True)
class PageFacts:
    """All that a part of the page may read.

    Attributes:
        wide, tall: the table and its long table; of a census its table and an empty frame.
        frames: the other tables by the beginning of their suffix: "pairs.", "contrasts.", …
        known: the rows of `compared.known_values`.
        notes: why controls are not in the table.
        scored: as `examples.collect` returns.
        results: the folder of the table.
    """

    plan: Plan
    wide: pandas.DataFrame
    tall: pandas.DataFrame
    frames: Mapping[str, pandas.DataFrame] = field(default_factory=dict)
    groups: Sequence[Group] = ()
    known: Sequence[dict] = ()
    notes: Sequence[str] = ()
    scored: Sequence[Scored] = ()
    results: Path = Path("results")

    @property
    def is_census(self) -> bool:
        """Return whether the study counts weights and evaluates nothing."""
        return self.plan.get("kind") == "census"

    @property
    def gamed(self) -> set[tuple[str, str]]:
        """Return (split, metric) of the scores by which a gaming text beats the best model.

        The page begins with others, where there are others.
        """
        if "flagged" not in self.tall:
            return set()
        flagged = self.tall[self.tall["flagged"].fillna(False).astype(bool)]
        return set(flagged[["split", "metric"]].itertuples(index=False, name=None))


@dataclass(frozen=True)
class Part:
    """A section of the page.

    Attributes:
        anchor: its id in the page.
        caption: a sentence that a newcomer understands.
        html: its content, escaped.
        charts: {id of an element: Vega-Lite spec with named data}. The element may stand in `html`;
            else it follows it.
        data: {name: rows}, embedded once as JSON.
    """

    anchor: str
    title: str
    caption: str
    html: str = ""
    charts: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    data: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
