"""The page as text: header, parts, data once, charts, script; no request leaves it."""

from __future__ import annotations

import base64
import hashlib
import importlib
import itertools
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.tables.page import claims_section, part_files, vega, verification
from prunegrid.tables.page.header import Header, header_of
from prunegrid.tables.page.part import PageFacts, Part

log = logging.getLogger("prunegrid")
# The attribute of a part that could not be made, by which tests find it.
FAILED_PART = "data-failed-part"
# Bytes of a page at most.
LARGEST = 5_000_000
# Names that altair counts up while a process runs.
_COUNTED = re.compile(r'"((?:view|param|name|concat|layer)_\d+)')


def page(facts: PageFacts) -> str:
    """Return a study's page: one HTML document, the same text for the same table.

    A part whose code fails, or that makes the page too large, is its heading and a sentence: charts
    are no reason to have no table.

    Raises:
        PrunegridError: two parts use one id, or the page is too large without any part.
    """
    header = header_of(facts)
    made = (_made(module, title, facts) for module, title in part_files.titles().items())
    parts = [part for part in made if part is not None]
    claims = _claims(facts)
    text = render(header, parts, claims)
    for _ in parts:
        if len(text.encode()) <= LARGEST:
            break
        sizes = [_size(part) for part in parts]
        largest = sizes.index(max(sizes))
        error = PrunegridError(f"it has {sizes[largest]} bytes, and a page at most {LARGEST}")
        parts[largest] = _failed(parts[largest].anchor, parts[largest].title, error)
        text = render(header, parts, claims)
    if len(text.encode()) > LARGEST:
        raise PrunegridError(
            f"the page has {len(text.encode())} bytes without any part",
            where=f"{facts.plan['study']}.html",
            expected=f"at most {LARGEST}",
        )
    return text


def _made(module: str, title: str, facts: PageFacts) -> Part | None:
    """Return the part of a module, or one that says why it could not be made."""
    try:
        part = importlib.import_module(module).part(facts)
        if part is not None:
            _size(part)  # what is no JSON fails here too
        return part
    except Exception as error:  # from anywhere in a part's code
        return _failed(module.rpartition(".")[2].replace("_", "-"), title, error)


def _claims(facts: PageFacts) -> str:
    """Return the section on conclusions, or one that says why it could not be made."""
    try:
        return claims_section.section(facts.results, facts.plan["study"])
    except Exception as error:  # a file of another version, or damaged
        why = _failed("claims", claims_section.TITLE, error).html
        return f"{claims_section.HEAD}{why}</section>"


def _failed(anchor: str, title: str, error: Exception) -> Part:
    """Return a part's heading and why there is nothing below it; the log has the traceback."""
    log.warning("the page has no part '%s'", title, exc_info=error)
    why = str(error) if isinstance(error, PrunegridError) else f"{type(error).__name__}: {error}"
    text = f"This part could not be made: {why}. The tables beside this page are whole."
    return Part(anchor, title, "", html=f'<p class="flag" {FAILED_PART}>{escape(text)}</p>')


def _size(part: Part) -> int:
    """Return how many characters of the page a part takes."""
    data = {name: packed(rows) for name, rows in part.data.items()}
    return len(part.html) + len(as_json(data)) + len(as_json(part.charts))


def render(header: Header, parts: Sequence[Part], claims: str = "") -> str:
    """Return the page of a header, parts, and the section on conclusions."""
    import jinja2

    require_distinct(parts)
    loader = jinja2.FileSystemLoader(part_files.FOLDER)
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    data = {name: packed(rows) for part in parts for name, rows in part.data.items()}
    charts = {name: spec for part in parts for name, spec in part.charts.items()}
    script = (part_files.FOLDER / "page.js").read_text(encoding="utf-8")
    scripts = [vega.scripts(), script] if charts else [script]
    scripts = [text.replace("</script", "<\\/script") for text in scripts]
    return template.get_template("page.html.jinja").render(
        header=header,
        parts=parts,
        claims=claims,
        unverified=verification.block(None, header.study),
        style=(part_files.FOLDER / "page.css").read_text(encoding="utf-8"),
        data=as_json(data),
        charts=recounted(as_json(charts)),
        scripts=scripts,
        hashes=[_hash(text) for text in scripts],
    )


def require_distinct(parts: Sequence[Part]) -> None:
    """Check that no id of a part, chart or data set is used twice."""
    for what in ("anchor", "charts", "data"):
        names = [getattr(part, what) for part in parts]
        every = names if what == "anchor" else list(itertools.chain(*names))
        twice = {name for name in every if every.count(name) > 1}
        if twice:
            raise PrunegridError(f"two parts of the page have the {what} {min(twice)}")


def packed(rows: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """Return rows as {columns, rows}, so that each name is written once."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    values = [[plain(row.get(name)) for name in columns] for row in rows]
    return {"columns": columns, "rows": values}


def plain(value: Any) -> Any:
    """Return a value as JSON has it; None for a null, NaN or infinite number."""
    if hasattr(value, "item"):
        value = value.item()
    if value is None or isinstance(value, str | bool | int | list | dict):
        return value
    return float(value) if isinstance(value, float) and math.isfinite(value) else None


def as_json(value: Any) -> str:
    """Return JSON that may stand in a script element: no text of it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def recounted(text: str) -> str:
    """Return specs with the names that altair counts up numbered from 1."""
    names: dict[str, str] = {}

    def again(match: re.Match) -> str:
        kind = match[1].rpartition("_")[0]
        return '"' + names.setdefault(match[1], f"{kind}_{len(names) + 1}")

    return _COUNTED.sub(again, text)


def _hash(script: str) -> str:
    """Return a script's digest as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
