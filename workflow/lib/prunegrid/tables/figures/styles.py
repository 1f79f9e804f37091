"""Colours, markers and line styles, of which no two series look alike; and the legend of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prunegrid.tables.figures.sheet import LINE, MARGIN, SMALL, Sheet, width_of

# Okabe and Ito's palette, distinguishable with the common colour-vision deficiencies.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", ":", "-.")
# What is no series: the untouched model, levels and notes.
DENSE_BAND, DENSE_LINE, QUIET, RULE, STRIPE = "0.86", "0.35", "0.45", "0.93", "0.96"
SAMPLE, GAP = 0.36, 0.25  # inches: of a piece of line, and to the next entry of a legend


@dataclass(frozen=True)
class Style:
    """The look of a series."""

    colour: str
    marker: str
    dashes: str


def style(index: int) -> Style:
    """Return the style of a figure's series by number; the first 56 differ from each other.

    Colours repeat after seven series; then the markers and line styles are others.
    """
    dashes = DASHES[index // len(PALETTE) % len(DASHES)]
    return Style(PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)], dashes)


@dataclass(frozen=True)
class Entry:
    """A name in a legend, its style, and the colour of a band behind it ("" without)."""

    name: str
    style: Style
    band: str = ""


class Legend:
    """A legend from margin to margin, over as many lines as it needs."""

    def __init__(self, entries: Sequence[Entry], width: float) -> None:
        self.places: list[tuple[Entry, float, int]] = []  # with the left edge in inches, the line
        left, line = MARGIN, 0
        for entry in entries:
            needed = SAMPLE + width_of(entry.name, SMALL)
            if self.places and left + needed > width - MARGIN:
                left, line = MARGIN, line + 1
            self.places.append((entry, left, line))
            left += needed + GAP
        self.height = LINE * (line + 1) + 0.12 if self.places else 0.0

    def draw(self, sheet: Sheet, top: float) -> None:
        """Draw it on a sheet."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle

        for entry, left, line in self.places:
            middle = top + LINE * (line + 0.5)
            ends = [left / sheet.width, (left + SAMPLE - 0.08) / sheet.width]
            height = 1 - middle / sheet.height
            where = {"transform": sheet.figure.transFigure}
            if entry.band:
                corner, width = (ends[0], height - 0.06 / sheet.height), ends[1] - ends[0]
                band = Rectangle(corner, width, 0.12 / sheet.height, color=entry.band, **where)
                sheet.figure.add_artist(band)
            look = entry.style
            drawn = {"color": look.colour, "linestyle": look.dashes, "linewidth": 1.4}
            drawn |= {"marker": look.marker, "markersize": 5, "markevery": [1]}
            across = [ends[0], sum(ends) / 2, ends[1]]
            sheet.figure.add_artist(Line2D(across, [height] * 3, **drawn, **where))
            sheet.text(left + SAMPLE, middle, entry.name, SMALL)
