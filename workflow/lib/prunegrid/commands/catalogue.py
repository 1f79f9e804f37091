"""What a config and the library offer, a line each: studies, profiles, plugins."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
from tabulate import tabulate

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config.grid import expand
from prunegrid.config.profiles import SECTIONS
from prunegrid.config.validated import Config

# {what may be listed: kinds of plugins}; all else is a section of the config.
PLUGINS = {
    "methods": ("pruning method", "criterion of structured pruning"),
    "refinements": ("refine",),
    "updates": ("update",),
    "allocations": ("allocation",),
    "strategies": ("strategy",),
    "controls": ("baseline",),
}
LONGEST = 100
TABLE = ("name", "kind", "cells", "table", "title")


def names() -> list[str]:
    """Return what may be listed."""
    return ["studies", *PLUGINS, *(name for name in SECTIONS if name != "studies")]


def lines(config: Config, what: str, results: Path) -> list[str]:
    """Return a line for each study, profile or plugin of the kind.

    Args:
        results: the folder of tables.

    Raises:
        PrunegridError: nothing is called so.
    """
    if what == "studies":
        studies = sorted(config.sections["studies"], key=lambda name: name != "demo")  # it first
        rows = [_study(config, name, results) for name in studies]
        return tabulate(rows, headers=TABLE, disable_numparse=True).splitlines()
    if what in PLUGINS:
        pairs = [pair for kind in PLUGINS[what] for pair in _plugins(kind)]
    elif what in config.sections:
        pairs = [(name, _about(what, one)) for name, one in config.sections[what].items()]
    else:
        raise PrunegridError(f"there is no list of '{what}'", remedy=nearest(what, names()))
    width = max((len(name) for name, _ in pairs), default=0)
    return [f"{name:{width}}  {text}".rstrip() for name, text in pairs]


def _study(config: Config, name: str, results: Path) -> tuple[str, ...]:
    """Return the row of a study: name, kind, cells, how far its table is, title."""
    study = config.profile("studies", name)
    cells = str(len(expand(config, name)))
    return (name, study.kind, cells, _table(results / f"{name}.parquet"), study.title)


def _table(path: Path) -> str:
    """Return in words how far a table is; a census has no states of its rows."""
    if not path.is_file():
        return "not made"
    try:
        status = pandas.read_parquet(path, columns=["status"])["status"]
    except (ValueError, OSError):
        return "made"
    done = int((status == "ok").sum())
    return "done" if done == len(status) else f"{done} of {len(status)} done"


def _plugins(kind: str) -> Iterator[tuple[str, str]]:
    for name, path in plugins.files(kind).items():
        units = " (of whole units: pattern: structured)" if "structured" in kind else ""
        yield name, first_sentence(path) + units


def first_sentence(path: Path) -> str:
    """Return the first sentence of a Python file's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return re.split(r"(?<!eq\.)(?<=[a-z)]\.) (?=[A-Z])", paragraph)[0]


def _about(section: str, profile: Any) -> str:
    """Return the keys that a profile sets, on one line; of a metric its module's docstring."""
    if section == "metrics" and profile.module.isidentifier():
        return first_sentence(plugins.files("metric")[profile.module])
    if section == "claims":
        return profile.says
    written = profile.model_dump(exclude_unset=True, exclude_defaults=False)
    text = ", ".join(f"{key}: {_plain(value)}" for key, value in written.items())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _plain(value: Any) -> str:
    return str(value).replace("\n", " ").replace("'", "")
