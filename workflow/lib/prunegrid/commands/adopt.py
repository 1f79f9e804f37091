"""Adoption of artifacts that other code or other package versions made.

A change of code or versions gives a step another key, so it runs again. `find` returns the pending
steps that differ in nothing else. `adopt` puts the old artifacts under the new keys, unchanged, if
somebody has reviewed that the change does not matter. Who, when and why stands in their manifests
and in the rows that are read from them.
"""

from __future__ import annotations

import contextlib
import datetime
import getpass
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder, dropped, keys
from prunegrid.artifacts.artifact_folder import read_manifest, sealed
from prunegrid.artifacts.lock import only_maker
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import Node, without_paths
from prunegrid.graph.stage_facts import stage_facts, stages


@dataclass(frozen=True)
class Upgrade:
    """A pending node that differs from an artifact at hand by code or versions alone.

    Attributes:
        folder, manifest: of the artifact at hand.
        pins: {package: (version then, version now)} of those that differ.
        code: whether its own code differs.
    """

    node: Node
    folder: Path
    manifest: Mapping[str, Any]
    pins: dict[str, tuple[str, str]]
    code: bool


def find(graph: Graph, nodes: Iterable[Node], results: Path) -> list[Upgrade]:
    """Return the upgrades among pending nodes, in their order.

    An artifact counts only if it was made from the bytes that each parent holds, or would hold once
    adopted: a row must not be of two models.

    Args:
        nodes: pending ones, parents before children.
        results: the folder of artifacts.
    """
    artifacts = _by_meaning(results)
    meanings: dict[Node, str] = {}
    contents: dict[Node, str | None] = {}
    upgrades = []
    for node in nodes:
        earlier = artifacts.get(_meaning(node, meanings))
        if earlier is None or earlier[1]["key"] == node.key or dropped.is_there(node.manifest):
            continue
        folder, manifest = earlier
        if not _reads_the_same(node, manifest, contents):
            continue
        contents[node] = manifest["content"]
        pins = {
            name: (manifest["pins"].get(name, "none"), version)
            for name, version in node.pins.items()
            if manifest["pins"].get(name) != version
        }
        upgrades.append(Upgrade(node, folder, manifest, pins, manifest["code"] != node.code))
    return upgrades


def _reads_the_same(node: Node, manifest: Mapping, contents: dict[Node, str | None]) -> bool:
    """Return whether a node's parents have the content that the manifest's artifact was made from.

    `contents` holds those of nodes that would be adopted; those of artifacts are added.
    """
    for parent in node.parents.values():
        if parent not in contents:
            contents[parent] = _recorded(parent).get("content")
    return all(
        contents[parent] == manifest["parents"][role]["content"]
        for role, parent in node.parents.items()
    )


def _recorded(node: Node) -> Mapping[str, Any]:
    """Return the manifest of a node's artifact, {} if there is none."""
    try:
        manifest = artifact_folder.recorded(node.path)
    except AttestationError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def lines(upgrades: Sequence[Upgrade], study: str) -> list[str]:
    """Return in words the steps that would run only because code or versions changed."""
    if not upgrades:
        return []
    changed = Counter(
        f"{name} {then} -> {now}" for one in upgrades for name, (then, now) in one.pins.items()
    )
    changed.update("code" for one in upgrades if one.code)
    changed.update("an input that changed so" for one in upgrades if not (one.code or one.pins))
    why = ", ".join(f"{what} ({count})" for what, count in changed.most_common())
    return [
        f"upgrade: {len(upgrades)} of these were made before under other code or versions: {why}",
        f"  to keep them as they are: prunegrid adopt {study} --because 'what you reviewed'",
    ]


def adopt(upgrades: Sequence[Upgrade], because: str) -> list[Path]:
    """Put artifacts under their new keys; return the new folders.

    Files are linked, or copied if the disk cannot link or they are another user's. Manifests keep
    the code, the pins and the versions that made the artifacts.

    Raises:
        PrunegridError: no reason is given.
        AttestationError: an artifact is not what its manifest says.
    """
    if not because.strip():
        raise PrunegridError("no reason is given", expected="--because 'what you reviewed'")
    folders = []
    for one in upgrades:
        with only_maker(Path(f"{one.node.scratch}.lock"), one.node.label):
            # A job may have made it meanwhile, or one of its parents.
            there = dropped.is_there(one.node.manifest)
            if not there and _reads_the_same(one.node, one.manifest, {}):
                _put(one, because)
                folders.append(one.node.path)
    return folders


def _put(one: Upgrade, because: str) -> None:
    manifest = read_manifest(one.folder, one.manifest["key"])
    with artifact_folder.writing(one.node.path) as out:
        for path in sorted(p for p in one.folder.rglob("*") if p.is_file()):
            if path.name not in (artifact_folder.MANIFEST, artifact_folder.DROPPED):
                _link(path, out / path.relative_to(one.folder))
        new = _manifest(one, manifest, because)
        before = dropped.dropped(one.folder)
        if before:  # dropped weights stay dropped
            file_io.write_json(out / artifact_folder.DROPPED, before | {"manifest": new})
        else:
            file_io.write_json(out / artifact_folder.MANIFEST, new)


def _manifest(one: Upgrade, manifest: Mapping[str, Any], because: str) -> dict[str, Any]:
    """Return the manifest under the new key, with the new keys of its parents."""
    decision = {
        "key": manifest["key"],
        "because": because,
        "by": getpass.getuser(),
        "on": datetime.date.today().isoformat(),
        "code": one.node.code if one.code else None,
        "pins": {name: list(versions) for name, versions in one.pins.items()},
    }
    parents = {
        role: {**manifest["parents"][role], "key": parent.key}
        for role, parent in one.node.parents.items()
    }
    new = {"key": one.node.key, "parents": parents, "lineage": _lineage(one, manifest)}
    new["adopted"] = [*manifest.get("adopted", []), decision]
    return sealed({**manifest, **new})


def _lineage(one: Upgrade, manifest: Mapping[str, Any]) -> list[dict]:
    """Return the lineage by the new keys, with the decisions on adopted steps."""
    chain = []
    weights = one.node.parents.get("weights") or one.node.parents.get("model")
    while weights is not None:
        chain.insert(0, weights)
        weights = weights.parents.get("weights")
    if len(chain) != len(manifest["lineage"]):
        return list(manifest["lineage"])
    lineage = []
    for entry, node in zip(manifest["lineage"], chain, strict=True):
        decisions = {k: v for k, v in _recorded(node).items() if k == "adopted"}
        lineage.append({**entry, "key": node.key, **decisions})
    return lineage


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it if the disk cannot, or if another user may change it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_uid == os.geteuid():
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _meaning(node: Node, known: dict[Node, str]) -> str:
    """Return a digest of a node's settings and parents, without code and versions."""
    if node not in known:
        parents = {role: _meaning(parent, known) for role, parent in node.parents.items()}
        known[node] = _digest(
            node.stage, node.settings, parents, node.pins, node.threads, node.device
        )
    return known[node]


def _by_meaning(results: Path) -> dict[str, tuple[Path, dict]]:
    """Return {meaning: (folder, manifest)} of the artifacts at hand, the newest of each."""
    manifests: dict[tuple[str, str], tuple[Path, dict]] = {}
    for folder in (results / "artifacts").glob("*/*"):
        try:
            manifest = artifact_folder.recorded(folder)
        except AttestationError:
            continue
        if _is_whole(manifest):
            manifests[manifest["stage"], manifest["key"]] = (folder, manifest)
    known: dict[tuple[str, str], str | None] = {}

    def meaning(name: tuple[str, str]) -> str | None:
        if name in known:
            return known[name]
        known[name] = None
        if name in manifests:
            manifest = manifests[name][1]
            parents = {
                role: meaning((parent["stage"], parent["key"]))
                for role, parent in manifest["parents"].items()
            }
            if None not in parents.values():
                facts = (manifest[fact] for fact in ("pins", "threads", "device"))
                known[name] = _digest(name[0], manifest["settings"], parents, *facts)
        return known[name]

    ordered = sorted(manifests, key=lambda name: manifests[name][0].stat().st_mtime)
    newest = {meaning(name): manifests[name] for name in ordered}
    return {key: value for key, value in newest.items() if key is not None}


def _is_whole(manifest: Any) -> bool:
    """Return whether a manifest has the facts that are read here, each of its type."""
    kinds = dict.fromkeys(("stage", "key", "content", "code", "device"), str)
    kinds |= {"threads": int, "settings": dict, "pins": dict, "parents": dict}
    return (
        isinstance(manifest, dict)
        and all(isinstance(manifest.get(fact), kind) for fact, kind in kinds.items())
        and manifest["stage"] in stages()
        and all(
            isinstance(parent, dict)
            and all(isinstance(parent.get(fact), str) for fact in ("stage", "key", "content"))
            for parent in manifest["parents"].values()
        )
    )


def _digest(
    stage: str, settings: Mapping, parents: dict, pins: Mapping, threads: int, device: str
) -> str:
    # Where a model scores, threads and the device change bytes too.
    facts = stage_facts(stage)
    threaded = facts.computes or (facts.metrics and "torch" in pins)
    how = [threads, device.partition(":")[0]] if threaded else None
    return keys.digest([stage, without_paths(dict(settings)), parents, how])
