"""Garbage: artifacts that no study of the config reaches, and weights that none reads.

Artifacts that a table in `results/` names stay, unless `tables` is given: the table may be of
another config over the same store. Artifacts that a job is making stay too.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.artifacts import dropped
from prunegrid.artifacts.artifact_folder import DROPPED, MANIFEST, recorded
from prunegrid.artifacts.job_status import read_state
from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import read_json
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.pending import readers


@dataclass(frozen=True)
class Garbage:
    """A folder that could go.

    Attributes:
        size: its bytes.
        weights: whether only its weights could go.
    """

    path: Path
    size: int
    label: str
    weights: bool = False


def find(
    graphs: Sequence[Graph], results: Path, *, besides: Sequence[Graph] = (), tables: bool = False
) -> list[Garbage]:
    """Return the folders that could go, in the order of their paths; those without manifest too.

    Args:
        graphs: of each config that the store serves.
        besides: graphs whose artifacts stay too, but whose `keep_weights` does not count.
        tables: return also artifacts that only tables name.
    """
    every = [node for graph in (*graphs, *besides) for node in graph.all_nodes()]
    reached = {f"{node.path.parent.name}-{node.path.name}" for node in every}
    stays = reached if tables else reached | set(_named(results))
    garbage = []
    for folder in sorted((results / "artifacts").glob("*/*")):
        name = f"{folder.parent.name}-{folder.name}"
        hidden = folder.name.startswith(".")  # half-written; the next job removes it
        if hidden or not folder.is_dir() or _is_running(results, name):
            continue
        # Without a manifest it is no artifact: `snakemake --delete-all-output` leaves the rest.
        if name in stays and any((folder / file).exists() for file in (MANIFEST, DROPPED)):
            continue
        garbage.append(Garbage(folder, _size(folder), _label(folder)))
    for folder in sorted((results / "scratch").glob("*-*")):
        if folder.is_dir() and folder.name not in reached and not _is_running(results, folder.name):
            garbage.append(Garbage(folder, _size(folder), "what an unfinished job left"))
    return garbage + list(_unread(graphs))


def _unread(graphs: Sequence[Graph]) -> Iterator[Garbage]:
    """Yield the weights that no config needs any more, by `keep_weights: until_used`."""
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
    """Remove the folders, or their weights."""
    for one in garbage:
        if one.weights:
            dropped.drop(one.path)
        else:
            shutil.rmtree(one.path)


def _named(results: Path) -> Iterator[str]:
    """Yield `<stage>-<key>` of all artifacts that the tables at hand name."""
    for path in results.glob("*.manifest.json"):
        try:
            yield from _names(read_json(path)["plan"])
        except (AttestationError, KeyError, TypeError):
            continue


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if {"path", "key", "stage"} <= value.keys():
            path = Path(value["path"])
            yield f"{path.parent.name}-{path.name}"
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _names(inner)


def _is_running(results: Path, name: str) -> bool:
    state = read_state(results / "status" / f"{name}.json") or {}
    return state.get("state") == "running"


def _label(folder: Path) -> str:
    try:
        return recorded(folder)["label"]
    except (AttestationError, KeyError, TypeError):
        return "without a manifest"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
