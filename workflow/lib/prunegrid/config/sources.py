"""Source strings of models and data sets: `hf:`, `pypi:`, `random:`, a local path."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

_HF = re.compile(r"^hf:(?P<repo>[\w.-]+(?:/[\w.-]+)?)$")
_PYPI = re.compile(r"^pypi:(?P<dist>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)$")
NUMBERS = "numbers:"  # a data set that is made here: number names in three languages
FORMS = "hf:org/name, pypi:dist==version, random:, numbers:, or a path of a file or folder"
_SLICE = re.compile(r"^(?P<split>[^\[\]]+)(?:\[(?P<first>\d*)(?P<a>%?):(?P<last>\d*)(?P<b>%?)\])?$")


def parse_source(text: str, base: Path) -> dict[str, Any]:
    """Return the parsed form of a source string.

    Args:
        text: the string of the config.
        base: the folder that relative paths start from.

    Returns:
        {"kind": "hf", "repo"} | {"kind": "pypi", "dist", "version"} | {"kind": "random"} |
        {"kind": "numbers"} | {"kind": "local", "path"} with an absolute path.

    Raises:
        ValueError: it has none of these forms.
    """
    if text in ("random:", NUMBERS):
        return {"kind": text.removesuffix(":")}
    if match := _HF.fullmatch(text):
        return {"kind": "hf", "repo": match["repo"]}
    if match := _PYPI.fullmatch(text):
        return {"kind": "pypi", "dist": match["dist"], "version": match["version"]}
    if re.match(r"^(hf|pypi|random|numbers):", text) or not text.strip():
        raise ValueError(f"is not a source; expected {FORMS}")
    path = Path(text).expanduser()
    path = path if path.is_absolute() else base / path
    if not path.exists():
        raise ValueError(f"there is no file or folder {path}; expected {FORMS}")
    return {"kind": "local", "path": str(path.resolve())}


def leaving(profile: Any) -> list[tuple[tuple[str, ...], str]]:
    """Return (keys, text) of what a source names below its own folder and would lead out of it.

    Args:
        profile: a model or data set: its `revision`, `file` and `files`.
    """
    named = {("revision",): profile.revision, ("file",): getattr(profile, "file", None)}
    files = getattr(profile, "files", None)
    by_split = files if isinstance(files, dict) else {"": files}
    named |= {("files", split) if split else ("files",): text for split, text in by_split.items()}
    return [(keys, text) for keys, text in named.items() if text is not None and _leads_out(text)]


def _leads_out(text: str) -> bool:
    path = PurePosixPath(text)
    return path.is_absolute() or ".." in path.parts or "\\" in text or not path.parts


def overlap(one: str, other: str) -> bool:
    """Whether two splits of a data set are known to share rows, by their expressions alone.

    Args:
        one, other: as in `splits` of a data set: `train`, `train[:90%]`, `all[100:200]`. Slices
            from the end, or one in rows and one in percent, are compared with whole splits only.
    """
    found = [_SLICE.match(one), _SLICE.match(other)]
    (name, part, _), (other_name, other_part, _) = one.partition("["), other.partition("[")
    if one == other or (name == other_name and not (part and other_part)):
        return bool(one)
    if not all(found) or found[0]["split"] != found[1]["split"]:
        return False
    units = {
        match[unit]
        for match in found
        for unit, end in (("a", "first"), ("b", "last"))
        if match[end]
    }
    if len(units) > 1:
        return False
    (first, last), (start, end) = (
        (int(match["first"] or 0), int(match["last"]) if match["last"] else float("inf"))
        for match in found
    )
    return max(first, start) < min(last, end)
