"""Colours, markers and line styles: no two series of a figure look alike."""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito's palette, distinguishable with the common colour-vision deficiencies.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":", "-.")
# What is no series: the untouched model, levels and notes.
DENSE_BAND, DENSE_LINE, QUIET, RULE, STRIPE = "0.86", "0.35", "0.45", "0.93", "0.96"


@dataclass(frozen=True)
class Style:
    """How a series is drawn."""

    colour: str
    marker: str
    dashes: str


def style(index: int) -> Style:
    """Return the style of a figure's series by number; the first 56 differ from each other.

    Colours repeat after seven series; then the markers and line styles are others.
    """
    again = index // len(PALETTE)
    return Style(
        PALETTE[index % len(PALETTE)],
        MARKERS[index % len(MARKERS)],
        DASHES[again % len(DASHES)],
    )
