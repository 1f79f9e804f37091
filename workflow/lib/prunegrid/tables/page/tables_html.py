"""Small tables and selectors of the page as HTML; every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

# A box that keyboards can scroll.
SCROLL = '<div class="scroll" tabindex="0">'


def table(rows: Sequence[Mapping[str, Any]], name: str = "") -> str:
    """Return a table that can be sorted, a column for each key of the first row.

    Args:
        name: its id, by which the fragment remembers its order.
    """
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{escape(str(column))}</th>' for column in rows[0])
    body = "".join(_line(row) for row in rows)
    about = f' id="{escape(name)}"' if name else ""
    whole = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'{SCROLL}<table class="sortable"{about}>{whole}</table></div>'


def _line(row: Mapping[str, Any]) -> str:
    return "<tr>" + "".join(f"<td>{escape(str(value))}</td>" for value in row.values()) + "</tr>"


def select(name: str, label: str, options: Sequence[tuple[str, str]], **more: Sequence[str]) -> str:
    """Return a selector that a chart's `$name` stands for; none to see if there is one option.

    Args:
        options: (value, what the reader sees).
        more: {name: a value of each option, for `$name:…`}.
    """
    lines = []
    for index, (value, text) in enumerate(options):
        facts = "".join(f' data-{key}="{escape(own[index])}"' for key, own in more.items())
        lines.append(f'<option value="{escape(value)}"{facts}>{escape(text)}</option>')
    hidden = " hidden" if len(options) < 2 else ""
    return f'<label{hidden}>{escape(label)} <select id="{name}">{"".join(lines)}</select></label>'
