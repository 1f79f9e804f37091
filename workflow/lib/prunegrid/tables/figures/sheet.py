"""A page to draw on, measured in inches from its upper left corner; its texts and its files.

Equal figures give equal files: the settings are matplotlib's own defaults whatever a user's
`matplotlibrc` says, and the files hold no date, no version and no random id. Functions import
matplotlib themselves: it takes half a second, and not every process that imports this draws.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

WIDTH = 10.0
MARGIN = 0.15
DPI = 150
TITLE, TEXT, SMALL = 12.0, 9.0, 8.0  # points
LINE = 0.18  # inches from line to line of text


class Sheet:
    """A figure of known size; `figure` is matplotlib's."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Return axes at a place given in inches."""
        bottom = self.height - top - height
        place = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(place)

    def text(self, left: float, top: float, text: str, size: float = TEXT, **named: Any) -> None:
        """Write text; `va` is "center" of a place given in inches."""
        place = (left / self.width, 1 - top / self.height)
        self.figure.text(*place, text, fontsize=size, **{"va": "center"} | named)


def compose(title: str, note: str, blocks: Sequence[Any], width: float = WIDTH) -> Any:
    """Return a figure of blocks below each other, its title and a note above them.

    A block goes from margin to margin; it has a `height` in inches, and `draw(sheet, top)` draws it
    with its upper edge `top` inches below the sheet's.
    """
    with defaults():
        heads = wrapped(title, width - 2 * MARGIN, TITLE, "bold")
        lines = wrapped(note, width - 2 * MARGIN, SMALL)
        head = 0.12 + 0.24 * len(heads) + LINE * len(lines) + 0.12
        sheet = Sheet(width, head + sum(block.height for block in blocks))
        for index, line in enumerate(heads):
            sheet.text(MARGIN, 0.22 + 0.24 * index, line, TITLE, weight="bold")
        for index, line in enumerate(lines):
            top = 0.22 + 0.24 * len(heads) + LINE * index
            sheet.text(MARGIN, top, line, SMALL, color="0.3")
        for block in blocks:
            block.draw(sheet, head)
            head += block.height
        return sheet.figure


def save(figure: Any, path: Path, form: str, salt: str) -> None:
    """Write a figure into a file, "png" or "svg"."""
    facts = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[form]
    with defaults({"svg.hashsalt": salt}):
        figure.savefig(path, format=form, dpi=DPI, metadata=facts)


@contextlib.contextmanager
def defaults(changes: dict[str, Any] | None = None) -> Iterator[None]:
    """Use matplotlib's own settings within the context; a name with `$` is no formula."""
    import matplotlib

    own = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context({**own, "text.parse_math": False, **(changes or {})}):
        yield


@functools.lru_cache(maxsize=4096)
def width_of(text: str, size: float = TEXT, weight: str = "normal") -> float:
    """Return the width of a text in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, False)[0] / 72


def wrapped(text: str, room: float, size: float = TEXT, weight: str = "normal") -> list[str]:
    """Return the lines of a text that is broken at spaces to fit into `room` inches."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width_of(longer, size, weight) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def fitting(text: str, room: float, size: float = TEXT, weight: str = "normal") -> float:
    """Return the largest size, `size` at most, at which a text fits into `room` inches."""
    return min(size, size * room / max(width_of(text, size, weight), 1e-6))
