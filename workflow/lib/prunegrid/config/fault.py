"""Faults of a study: where they are, and what they are."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A fault of a study: keys below `studies.<name>`, and a sentence without a subject."""

    keys: tuple
    text: str


class GridError(Exception):
    """All faults of one study's grid."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{f.keys} {f.text}" for f in faults))
