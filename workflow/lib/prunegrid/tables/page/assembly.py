"""The page as text: header, parts, data once, charts, script; no request leaves it."""

from __future__ import annotations

import base64
import hashlib
import importlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.tables.page import claims_section, part_files, verification
from prunegrid.tables.page.header import Header, header_of
from prunegrid.tables.page.part import PageFacts, Part

# Bytes of a page at most.
LARGEST = 5_000_000
# Names that altair counts up while a process runs.
_COUNTED = re.compile(r'"((?:view|param|name|concat|layer)_\d+)')


def page(facts: PageFacts) -> str:
    """Return a study's page: one HTML document, the same text for the same table.

    Raises:
        PrunegridError: two parts use one id, or it is too large.
    """
    modules = [importlib.import_module(name) for name in part_files.modules()]
    parts = [part for part in (module.part(facts) for module in modules) if part is not None]
    claims = claims_section.section(facts.results, facts.plan["study"])
    text = render(header_of(facts), parts, claims)
    if len(text.encode()) > LARGEST:
        sizes = {part.anchor: len(part.html) + len(as_json(part.data)) for part in parts}
        largest = max(sizes, key=lambda anchor: sizes[anchor])
        raise PrunegridError(
            f"the page has {len(text.encode())} bytes, of which {largest} {sizes[largest]}",
            where=f"{facts.plan['study']}.html",
            expected=f"at most {LARGEST}",
        )
    return text


def render(header: Header, parts: Sequence[Part], claims: str = "") -> str:
    """Return the page of a header, parts, and the section on conclusions."""
    import jinja2
    import vl_convert

    require_distinct(parts)
    loader = jinja2.FileSystemLoader(part_files.FOLDER)
    template = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    data = {name: packed(rows) for part in parts for name, rows in part.data.items()}
    charts = {name: spec for part in parts for name, spec in part.charts.items()}
    script = (part_files.FOLDER / "page.js").read_text(encoding="utf-8")
    scripts = [vl_convert.javascript_bundle(), script] if charts else [script]
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
