"""Source strings of models and data sets: `hf:`, `pypi:`, `random:`, a local path."""

from __future__ import annotations

import difflib
import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from prunegrid.common.data_formats import format_of
from prunegrid.common.errors import nearest
from prunegrid.common.source_code import LIBRARY

_HF = re.compile(r"^hf:(?P<repo>[\w.-]+(?:/[\w.-]+)?)$")
_PYPI = re.compile(r"^pypi:(?P<dist>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)$")
# A repository of the hub as people copy it: its name, or its address.
_REPOSITORY = re.compile(
    r"(?:https?://)?(?:huggingface\.co/(?:datasets/)?)?([\w-][\w.-]*/[\w.-]+)/?"
)
NUMBERS = "numbers:"  # a data set that is made here: number names in three languages
PROBE = "probe:"  # before the name of a file of data/probes/: items that are made here
FORMS = "hf:org/name, pypi:dist==version, random:, numbers:, probe:name, or a path"
_SLICE = re.compile(r"^(?P<split>[^\[\]]+)(?:\[(?P<first>\d*)(?P<a>%?):(?P<last>\d*)(?P<b>%?)\])?$")
# As `datasets` reads it: a split and a slice, in rows or percent, which may count from the end.
_EXPRESSION = re.compile(r"([^\[\]]+?)\s*(\[(-?\d+%?)?:(-?\d+%?)?\])?")


def parse_source(text: str, base: Path) -> dict[str, Any]:
    """Return the parsed form of a source string; relative paths start from `base`.

    It is {"kind": "hf", "repo"}, {"kind": "pypi", "dist", "version"}, {"kind": "random"},
    {"kind": "numbers"}, {"kind": "probe", "name"}, or {"kind": "local", "path"} with an absolute
    path.

    Raises:
        ValueError: the string has none of these forms.
    """
    if text in ("random:", NUMBERS):
        return {"kind": text.removesuffix(":")}
    if match := _HF.fullmatch(text):
        return {"kind": "hf", "repo": match["repo"]}
    if match := _PYPI.fullmatch(text):
        return {"kind": "pypi", "dist": match["dist"], "version": match["version"]}
    if text.startswith(PROBE):
        name = text.removeprefix(PROBE)
        if name not in probes():
            raise ValueError(f"is no probe; {nearest(name, probes())}")
        return {"kind": "probe", "name": name}
    if re.match(r"^(hf|pypi|random|numbers):", text) or not text.strip():
        raise ValueError(f"is not a source; expected {FORMS}")
    path = Path(text).expanduser()
    path = path if path.is_absolute() else base / path
    if not path.exists():
        is_file = format_of(text) or text.endswith(".gguf")
        name = None if is_file else _REPOSITORY.fullmatch(text)
        hint = f"did you mean hf:{name[1]}? It is " if name else "expected "
        if near := _near(path):
            told = near if Path(text).is_absolute() else os.path.relpath(near, base)
            hint = f"did you mean {told}? Expected "
        raise ValueError(f"there is no file or folder {path}; {hint}{FORMS}")
    return {"kind": "local", "path": str(path.resolve())}


def _near(path: Path) -> Path | None:
    """Return the path of what is there whose names are like those of a path; None without."""
    if path.exists():
        return path
    parent = _near(path.parent)
    try:
        names = os.listdir(parent) if parent else []
    except OSError:  # a file, or a folder that may not be read
        names = []
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return parent / close[0] if close else None


@functools.cache
def probes() -> tuple[str, ...]:
    """Return the names of all probes."""
    files = (LIBRARY / "prunegrid/data/probes").glob("[!_]*.py")
    return tuple(sorted(file.stem for file in files))


def split_read(expression: str) -> str | None:
    """Return the split of the source in an expression of `splits`; None if it is no expression."""
    match = _EXPRESSION.fullmatch(expression.strip())
    return match and match[1]


def rows_taken(expression: str, rows: int | None) -> int | None:
    """Return how many of a split's rows an expression takes; None where that is not known.

    Args:
        rows: those of the split; None if unknown. A slice may tell without them: `train[:500]`.
    """
    match = _EXPRESSION.fullmatch(expression.strip())
    if match is None:
        return None
    first, last = match[3] or "0", match[4] or "100%"
    if rows is not None:
        return max(_row(last, rows) - _row(first, rows), 0)
    if "%" in first + last or (first[0] == "-") != (last[0] == "-"):
        return None
    return max(int(last) - int(first), 0)


def _row(end: str, rows: int) -> int:
    """Return the row that an end of a slice means, in rows or in percent of all."""
    number = round(rows * int(end[:-1]) / 100) if end.endswith("%") else int(end)
    return min(max(number + rows if number < 0 else number, 0), rows)


def known_config(model: Any, base: Path) -> dict[str, Any]:
    """Return what is known of a model's config before it is fetched; {} if nothing is.

    Known are the configs of `random:`, of a local folder, and of a hub model that is in the cache.

    Args:
        model: a profile with a valid source.
        base: as of `parse_source`.
    """
    source = parse_source(model.source, base)
    if source["kind"] == "random":
        return dict(model.config or {})
    place = model_place({**source, "file": model.file, "revision": model.revision})
    return config_in(place) if place else {}


def config_in(folder: Path) -> dict[str, Any]:
    """Return the config of a model's folder; {} if it has none that can be read."""
    try:
        facts = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # told by the step that reads it
        return {}
    return facts if isinstance(facts, dict) else {}


def model_place(source: Mapping[str, Any]) -> Path | None:
    """Return the folder or file of a model on this machine, if its source can have one here.

    Args:
        source: of `parse_source`, and of the hub's models their `revision` and `file`.
    """
    if source["kind"] == "local":
        return Path(source["path"])
    if source["kind"] != "hf":
        return None
    folder = _cached(source["repo"], source.get("revision") or "main")
    return folder / source["file"] if source.get("file") else folder


def _cached(repo: str, revision: str) -> Path:
    """Return the folder where the hub's cache has a model, if it has it.

    As huggingface_hub does, whose import takes longer than reading the whole config here.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    home = Path(os.environ.get("HF_HOME", home))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    folder = cache / f"models--{repo.replace('/', '--')}"
    named = folder / "refs" / revision
    commit = named.read_text(encoding="utf-8").strip() if named.is_file() else revision
    return folder / "snapshots" / commit


def leaving(profile: Any) -> list[tuple[tuple[str, ...], str]]:
    """Return (keys, path) of each `revision` or file of a model or data set outside its source."""
    named = {(key,): getattr(profile, key, None) for key in ("revision", "file", "files")}
    if isinstance(files := named["files",], dict):
        del named["files",]
        named |= {("files", split): path for split, path in files.items()}
    listed = {keys: path if isinstance(path, list) else [path] for keys, path in named.items()}
    several = [(keys, path) for keys, paths in listed.items() for path in paths]
    return [(keys, path) for keys, path in several if path is not None and _leads_out(path)]


def _leads_out(text: str) -> bool:
    path = PurePosixPath(text)
    return path.is_absolute() or ".." in path.parts or "\\" in text or not path.parts


def overlap(one: str, other: str) -> bool:
    """Return whether two splits of a data set are known to share rows, by their expressions alone.

    Args:
        one, other: as in `splits` of a data set: `train`, `train[:90%]`, `all[100:200]`. Slices
            from the end, or one in rows and one in percent, are compared with whole splits only.
    """
    (name, part, _), (other_name, other_part, _) = one.partition("["), other.partition("[")
    if one == other or (name == other_name and not (part and other_part)):
        return bool(one)
    slices = [_SLICE.match(one), _SLICE.match(other)]
    if None in slices or name != other_name:
        return False
    bounds = [(s["first"], s["a"], s["last"], s["b"]) for s in slices]
    units = {unit for first, a, last, b in bounds for end, unit in ((first, a), (last, b)) if end}
    start = max(int(first or 0) for first, *_ in bounds)
    end = min(int(last) if last else float("inf") for _, _, last, _ in bounds)
    return len(units) < 2 and start < end
