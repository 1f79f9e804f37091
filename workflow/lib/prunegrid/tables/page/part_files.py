"""The files that a page is made of, found without importing them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from prunegrid.common.source_code import literals

FOLDER = Path(__file__).parent
PACKAGE = "prunegrid.tables.page.parts"
STATIC = ("page.html.jinja", "page.css", "page.js")


def titles() -> dict[str, str]:
    """Return {module of a part: its heading}, in the order of the page."""
    files = sorted((FOLDER / "parts").glob("*.py"))
    parts = [(literals(path), path.stem) for path in files]
    found = [(own["ORDER"], name, own["TITLE"]) for own, name in parts if "ORDER" in own]
    return {f"{PACKAGE}.{name}": title for _, name, title in sorted(found)}


def modules() -> list[str]:
    """Return the modules of the parts, in the order of the page."""
    return [*titles()]


def static_digest() -> str:
    """Return the SHA-256 of the template, the style and the script."""
    return hashlib.sha256(b"".join((FOLDER / name).read_bytes() for name in STATIC)).hexdigest()
