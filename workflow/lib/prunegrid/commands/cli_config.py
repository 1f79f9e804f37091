"""Graphs of the project's config, with the files and values of a command line laid over it.

Files are those of --configfile, merged in turn; values are the KEY=VALUE of --config.
"""

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
    """Return the graph of a config, which must have the study.

    Raises:
        PrunegridError: a file or value cannot be read, the config has faults, or lacks the study.
    """
    config, _ = validated(files, values)
    if study is not None:
        _require(study, config.sections["studies"], files)
    return Graph(config, ROOT)


def validated(files: Iterable[Path], values: Iterable[str] = ()) -> tuple[Config, Places]:
    """Return a config and the places of its keys.

    Raises:
        PrunegridError: a file or value cannot be read, or the config has faults.
    """
    files = [*project_files(ROOT), *files]
    tree = read_files(files, over=overrides(values))
    return validate(tree, files, Path.cwd()), Places(files)


def require_study(study: str, files: Iterable[Path] = (), values: Iterable[str] = ()) -> None:
    """Check that a config has a study, and nothing else of it.

    Raises:
        PrunegridError: it has none of that name, or cannot be read.
    """
    _require(study, studies(files, values), files)


def studies(files: Iterable[Path] = (), values: Iterable[str] = ()) -> list[str]:
    """Return the names of a config's studies, and check nothing else of it."""
    tree = read_files([*project_files(ROOT), *files], over=overrides(values))
    return list(tree.get("studies") or {})


def _require(study: str, known: Iterable[str], files: Iterable[Path]) -> None:
    if study not in known:
        remedy = successor(study, known)
        if not list(files):
            remedy += "; if a file of yours defines it, name that: -c FILE.yaml"
        raise PrunegridError(f"there is no study '{study}'", remedy=remedy)


def stores(sets: Iterable[Iterable[Path]], values: Iterable[str] = ()) -> list[Graph]:
    """Return the graph of each set of config files; without any, that of the project's config."""
    return [graph(files, values) for files in list(sets) or [()]]


def elsewhere(graphs: Iterable[Graph]) -> list[Graph]:
    """Return the same graphs for the devices and precisions that their configs do not name.

    Machines with and without a GPU or bfloat16 share a store; their keys differ.
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
    tree = {}
    for text in values:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise PrunegridError(f"--config {text} is not KEY=VALUE", remedy="--config device=cuda")
        try:
            tree[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise PrunegridError(f"--config {text} is not YAML after the '='") from error
    return tree
