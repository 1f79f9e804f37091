"""Blocks of a written page that commands write again: each between two comments of its name."""

from __future__ import annotations

from pathlib import Path

from prunegrid.artifacts.artifact_folder import read_sealed, sealed
from prunegrid.common.file_io import file_sha256, write_json, write_text


def replaced(text: str, name: str, html: str) -> str:
    """Return a page's text with another content of a block."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = text.split(begin, 1)
    return f"{before}{begin}{html}{end}{rest.split(end, 1)[1]}"


def rewrite(table: Path, name: str, html: str) -> bool:
    """Write a block of a table's page again, and the page's digest in the table's manifest.

    Returns:
        Whether it was: a page that is not there, or not the manifest's, is left as it is.

    Raises:
        PrunegridError: the manifest is damaged.
        OSError: the folder cannot be written to.
    """
    page, path = table.with_suffix(".html"), table.with_suffix(".manifest.json")
    if not page.is_file():
        return False
    manifest = read_sealed(path)
    if file_sha256(page) != manifest["files"].get(page.name):
        return False
    write_text(page, replaced(page.read_text(encoding="utf-8"), name, html))
    files = manifest["files"] | {page.name: file_sha256(page)}
    rest = {name: value for name, value in manifest.items() if name != "seal"}
    write_json(path, sealed(rest | {"files": files}))
    return True
