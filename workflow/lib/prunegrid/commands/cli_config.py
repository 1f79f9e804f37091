"""The graphs that a command line asks for: its config files and values, laid over the project's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from prunegrid.common.errors import PrunegridError
from prunegrid.common.precision import NAMED
from prunegrid.common.source_code import LIBRARY
from prunegrid.config.config_files import Places, project_files, read_files
from prunegrid.config.load import validate
from prunegrid.config.renamed import successor
from prunegrid.config.validated import Config
from prunegrid.graph.artifact_graph import Graph

ROOT = LIBRARY.parent.parent
DEVICES = ("cpu", "cuda")


def graph(files: Iterable[Path], values: Iterable[str] = (), study: str | None = None) -> Graph:
    """Return the graph of the project's config, with files and values laid over it.

    Args:
        files: as Snakemake's --configfile takes them, merged in turn.
        values: KEY=VALUE, as its --config takes them.
        study: one that must be there.

    Raises:
        PrunegridError: a file or value cannot be read, the config has faults, or lacks the study.
    """
    config, _ = validated(files, values)
    if study is not None:
        _require(study, config.sections["studies"])
    return Graph(config, ROOT)


def validated(files: Iterable[Path], values: Iterable[str] = ()) -> tuple[Config, Places]:
    """Return the project's config, with files and values laid over it, and where its keys stand.

    Raises:
        PrunegridError: a file or value cannot be read, or the config has faults.
    """
    named = [*project_files(ROOT), *files]
    return validate(_tree(named, values), named, Path.cwd()), Places(named)


def require_study(study: str, files: Iterable[Path] = (), values: Iterable[str] = ()) -> None:
    """Check that a config has a study, without a look at anything else in it.

    Raises:
        PrunegridError: it has none of that name, or cannot be read.
    """
    _require(study, _tree([*project_files(ROOT), *files], values).get("studies") or {})


def _tree(files: list[Path], values: Iterable[str]) -> dict[str, Any]:
    return read_files(files, over=overrides(values))


def _require(study: str, known: Iterable[str]) -> None:
    if study not in known:
        raise PrunegridError(f"there is no study '{study}'", remedy=successor(study, known))


def stores(sets: Iterable[Iterable[Path]], values: Iterable[str] = ()) -> list[Graph]:
    """Return the graphs that a store serves: of each set of config files.

    Args:
        sets: config files that are used together; without any, the project's config is the one.
        values: KEY=VALUE, over each.
    """
    return [graph(files, values) for files in list(sets) or [()]]


def elsewhere(graphs: Iterable[Graph]) -> list[Graph]:
    """Return the same graphs for the devices and precisions that their configs do not name.

    A store is used by machines with a GPU and without, with bfloat16 and without: their keys
    differ.
    """
    return [
        Graph(one.config.on(device, precision), ROOT)
        for one in graphs
        for device in DEVICES
        for precision in NAMED
        if (device, precision) != (one.config.device, one.config.resolved_dtype)
    ]


def overrides(values: Iterable[str]) -> dict[str, Any]:
    """Return {key: value} of KEY=VALUE texts, each value read as YAML.

    Raises:
        PrunegridError: one is not of that form.
    """
    found = {}
    for text in values:
        key, sign, value = text.partition("=")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise PrunegridError(f"--config {text} is not YAML after the '='") from error
        if not sign or not key:
            raise PrunegridError(f"--config {text} is not KEY=VALUE", remedy="--config device=cuda")
    return found
