"""A legend that flows over as many lines as it needs."""

from __future__ import annotations

from dataclasses import dataclass

from prunegrid.tables.figures.sheet import LINE, MARGIN, SMALL, Sheet, width_of
from prunegrid.tables.figures.styles import Style

SAMPLE, GAP = 0.36, 0.25  # inches: of a piece of line, and to the next entry


@dataclass(frozen=True)
class Entry:
    """A name, how it is drawn, and the colour of a band behind it ("" without)."""

    name: str
    style: Style
    band: str = ""


@dataclass(frozen=True)
class Legend:
    """Entries, from margin to margin."""

    entries: tuple[Entry, ...]
    width: float

    @property
    def height(self) -> float:
        """Return its height in inches."""
        places = self._places()
        return LINE * (places[-1][1] + 1) + 0.12 if places else 0.0

    def _places(self) -> list[tuple[float, int]]:
        """Return (left edge in inches, line) of each entry."""
        places, left, line = [], MARGIN, 0
        for entry in self.entries:
            needed = SAMPLE + width_of(entry.name, SMALL)
            if places and left + needed > self.width - MARGIN:
                left, line = MARGIN, line + 1
            places.append((left, line))
            left += needed + GAP
        return places

    def draw(self, sheet: Sheet, top: float) -> None:
        """Draw it on a sheet."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Rectangle

        for entry, (left, line) in zip(self.entries, self._places(), strict=True):
            middle = top + LINE * (line + 0.5)
            ends = [left / sheet.width, (left + SAMPLE - 0.08) / sheet.width]
            high = 1 - middle / sheet.height
            where = {"transform": sheet.figure.transFigure}
            if entry.band:
                corner, width = (ends[0], high - 0.06 / sheet.height), ends[1] - ends[0]
                band = Rectangle(corner, width, 0.12 / sheet.height, color=entry.band, **where)
                sheet.figure.add_artist(band)
            look = entry.style
            drawn = {"color": look.colour, "linestyle": look.dashes, "linewidth": 1.4}
            drawn |= {"marker": look.marker, "markersize": 5, "markevery": [1]}
            across = [ends[0], sum(ends) / 2, ends[1]]
            sheet.figure.add_artist(Line2D(across, [high] * 3, **drawn, **where))
            sheet.text(left + SAMPLE, middle, entry.name, SMALL)
