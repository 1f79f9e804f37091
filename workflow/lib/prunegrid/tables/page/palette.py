"""Colours of the page's charts: told apart with the common colour-vision deficiencies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

# Okabe and Ito's, without the yellow and the black, which one of the two backgrounds swallows.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DENSE, FAILED = "#8C8C8C", "#9AA3AC"
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")


def of(names: Sequence[str], dense: str) -> list[str]:
    """Return the colour of each name; grey is the dense model's alone."""
    others = [name for name in names if name != dense]
    colours = dict(zip(others, itertools.cycle(SERIES), strict=False))
    return [colours.get(name, DENSE) for name in names]
