"""One row of the table: what was measured, what is expected, the verdict."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

OK, DIFFERS, NOT_RUN = "ok", "differs", "not run"


class NotRun(Exception):
    """A check cannot run here; the message says why."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        line: what is measured.
        measured, expected: texts for the table.
        verdict: "ok", "differs", or "not run: " and why.
        values: the numbers behind it, JSON-able.
        error: the traceback, where the check failed.
    """

    line: str
    measured: str
    expected: str
    verdict: str
    values: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the row makes the exit status 1."""
        return self.verdict == DIFFERS


def judged(
    line: str,
    value: float,
    low: float | None = None,
    high: float | None = None,
    *,
    form: str = "{:.4f}",
    unit: str = "",
    **values: Any,
) -> Row:
    """Return a row whose verdict is "ok" where low ≤ value ≤ high; NaN is outside.

    Args:
        low, high: None where there is no such bound.
        form: how the three numbers are written.
        unit: stands behind them.
        values: further numbers for the JSON.
    """
    texts = {
        name: form.format(bound)
        for name, bound in (("low", low), ("high", high))
        if bound is not None
    }
    if len(texts) == 2:
        expected = texts["low"] if low == high else f"{texts['low']} to {texts['high']}"
    elif texts:
        expected = f"at least {texts['low']}" if low is not None else f"at most {texts['high']}"
    else:
        expected = "no bound"
    inside = value == value and (low is None or value >= low) and (high is None or value <= high)
    return Row(
        line,
        form.format(value) + unit,
        expected + (unit if texts else ""),
        OK if inside else DIFFERS,
        {"value": value, "low": low, "high": high, **values},
    )


def not_run(line: str, why: str) -> Row:
    """Return the row of a line that was not measured."""
    return Row(line, "–", "–", f"{NOT_RUN}: {why}")


def failed(line: str, message: str, error: str) -> Row:
    """Return the row of a line that ended in an error."""
    return Row(line, message, "no error", DIFFERS, error=error)


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table whose columns are aligned."""
    cells = [("line", "measured", "expected", "verdict")]
    cells += [(row.line, row.measured, row.expected, row.verdict) for row in rows]
    cells = [tuple(cell.replace("|", "/").replace("\n", " ") for cell in line) for line in cells]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
