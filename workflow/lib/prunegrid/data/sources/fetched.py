"""Files that a source resolves to, and the facts about them that go into the manifest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError


@dataclass(frozen=True)
class Fetched:
    """Files on this disk, and the facts about them that go into the manifest.

    Attributes:
        place: a folder, or one file.
        names: the files that count, relative to `place` (its own name if it is a file).
        facts: see `facts`.
    """

    place: Path
    names: tuple[str, ...]
    facts: dict


def facts(source: dict, resolved: str | None, licence: str | None, files: dict[str, str]) -> dict:
    """Return a source's record {kind, name, resolved, licence, files {name: SHA-256}, note}."""
    record = {
        "kind": source["kind"],
        "name": describe(source),
        "resolved": resolved,
        "licence": licence,
        "files": files,
        "note": None,
    }
    return record | ({"licence_of": "the wheel"} if source["kind"] == "pypi" else {})


def describe(source: dict) -> str:
    """Return a source in the form in which a config names it, for errors and records."""
    kind = source["kind"]
    if kind == "hf":
        return f"hf:{source['repo']}@{source.get('revision') or 'main'}"
    if kind == "pypi":
        return f"pypi:{source['dist']}=={source['version']}"
    return f"{kind}:{source.get('path' if kind == 'local' else 'name', '')}"


def hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return {name: SHA-256} of the named files below `folder`."""
    return {name: file_io.file_sha256(folder / name) for name in sorted(names)}


def check_member(name: str, where: str) -> PurePosixPath:
    """Return the path of a file in a repository or wheel, which must stay inside of it.

    Raises:
        PrunegridError: it is absolute or climbs out of its folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise PrunegridError(
            f"the file name {name!r} leads out of its folder",
            where=where,
            expected="a relative path without '..'",
        )
    return path
