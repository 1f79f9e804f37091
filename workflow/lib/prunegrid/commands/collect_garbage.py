"""What no study of the config needs any more: artifacts that none reaches, weights that none reads.

Nothing goes that a table in `results/` names, unless that is asked for: it may be of another config
file over the same store. What a job is making, or has said that it is, stays too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.artifacts import dropped
from prunegrid.artifacts.artifact_folder import recorded
from prunegrid.artifacts.job_status import read_state
from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import read_json
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.pending import readers


@dataclass(frozen=True)
class Garbage:
    """A folder that could go.

    Attributes:
        path: of it.
        size: bytes that it takes.
        label: what it is.
        weights: only its weights could go; the rest of it stays.
    """

    path: Path
    size: int
    label: str
    weights: bool = False


def find(
    graphs: Sequence[Graph], results: Path, *, besides: Sequence[Graph] = (), tables: bool = False
) -> list[Garbage]:
    """Return what could go, in the order of its paths.

    Args:
        graphs: of each config that the store serves.
        results: the folder.
        besides: graphs whose artifacts stay too, without a say in which weights are needed.
        tables: also what only tables that are there name.
    """
    every = [node for graph in (*graphs, *besides) for node in graph.all_nodes()]
    reached = {node.path.as_posix() for node in every}
    named = set() if tables else set(_named(results))
    found = []
    for folder in sorted((results / "artifacts").glob("*/*")):
        place = f"results/artifacts/{folder.parent.name}/{folder.name}"
        hidden = folder.name.startswith(".")  # being written; a job removes what one left behind
        if hidden or not folder.is_dir() or place in reached | named:
            continue
        if not _is_running(results, folder.parent.name, folder.name):
            found.append(Garbage(folder, _size(folder), _label(folder)))
    names = {place.split("/")[-2] + "-" + place.split("/")[-1] for place in reached}
    for folder in sorted((results / "scratch").glob("*-*")):
        stage, _, key = folder.name.partition("-")
        if folder.is_dir() and folder.name not in names and not _is_running(results, stage, key):
            found.append(Garbage(folder, _size(folder), "what an unfinished job left"))
    return found + list(_unread(graphs))


def _unread(graphs: Sequence[Graph]) -> Iterator[Garbage]:
    """Yield the weights that every config does without, by `keep_weights: until_used`."""
    needless: dict[str, bool] = {}
    nodes = {}
    for graph in graphs:
        for node, reading in readers(graph, graph.config.sections["studies"]).items():
            read = all(dropped.is_there(reader.manifest) for reader in reading)
            lean = graph.config.keep_weights == "until_used" and read
            nodes[node.manifest] = node
            needless[node.manifest] = needless.get(node.manifest, True) and lean
    for manifest, node in nodes.items():
        if needless[manifest] and Path(manifest).exists():
            files = node.path.rglob(dropped.PATTERN)
            size = sum(path.stat().st_size for path in files)
            if size:
                yield Garbage(node.path, size, node.label, weights=True)


def remove(garbage: Iterable[Garbage]) -> None:
    """Remove what `find` found."""
    for one in garbage:
        if one.weights:
            dropped.drop(one.path)
        else:
            shutil.rmtree(one.path)


def _named(results: Path) -> Iterator[str]:
    """Yield the folders of all artifacts that the tables at hand name."""
    for path in results.glob("*.manifest.json"):
        try:
            yield from _paths(read_json(path)["plan"])
        except (AttestationError, KeyError, TypeError):
            continue


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if {"path", "key", "stage"} <= value.keys():
            yield value["path"]
        for inner in value.values():
            yield from _paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner)


def _is_running(results: Path, stage: str, key: str) -> bool:
    state = read_state(results / "status" / f"{stage}-{key}.json") or {}
    return state.get("state") == "running"


def _label(folder: Path) -> str:
    try:
        return recorded(folder)["label"]
    except (AttestationError, KeyError, TypeError):
        return "without a manifest"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
