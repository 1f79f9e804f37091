"""What was made before under other code or other package versions, and taking it over.

The same settings over the same inputs, made by other code or other versions, are another key: the
step runs again. `find` tells which pending steps are only that. `adopt` takes what is there over
under the new key, unchanged, where somebody has reviewed that the change does not matter; who, when
and why stands in its manifest and in the rows that are read from it.
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
        node: what would be made.
        folder: the artifact that is there.
        manifest: of that artifact.
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

    What was made from other bytes than a parent holds, or would hold once taken over, is none: a
    row must not be of two models.

    Args:
        graph: of the config.
        nodes: pending ones, parents before children.
        results: the folder of artifacts.
    """
    made = _by_meaning(results)
    meanings: dict[Node, str] = {}
    contents: dict[Node, str | None] = {}
    found = []
    for node in nodes:
        earlier = made.get(_meaning(node, meanings))
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
        found.append(Upgrade(node, folder, manifest, pins, manifest["code"] != node.code))
    return found


def _reads_the_same(node: Node, manifest: Mapping, contents: dict[Node, str | None]) -> bool:
    """Return whether each parent has the content that an artifact was made from.

    Args:
        node: in whose place the artifact would stand.
        manifest: of the artifact.
        contents: of nodes, those that would be taken over among them; what is there is added.
    """
    for parent in node.parents.values():
        if parent not in contents:
            contents[parent] = _recorded(parent).get("content")
    return all(
        contents[parent] == manifest["parents"][role]["content"]
        for role, parent in node.parents.items()
    )


def _recorded(node: Node) -> Mapping[str, Any]:
    """Return the manifest of a node's artifact, {} where there is none."""
    try:
        manifest = artifact_folder.recorded(node.path)
    except AttestationError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def lines(found: Sequence[Upgrade], study: str) -> list[str]:
    """Return in words what would run only because code or versions changed."""
    if not found:
        return []
    changed = Counter(
        f"{name} {then} -> {now}" for one in found for name, (then, now) in one.pins.items()
    )
    changed.update("code" for one in found if one.code)
    changed.update("an input that changed so" for one in found if not (one.code or one.pins))
    why = ", ".join(f"{what} ({count})" for what, count in changed.most_common())
    return [
        f"upgrade: {len(found)} of these were made before under other code or versions: {why}",
        f"  to keep them as they are: prunegrid adopt {study} --because 'what you reviewed'",
    ]


def adopt(found: Sequence[Upgrade], because: str) -> list[Path]:
    """Take artifacts over under their new keys; return the new folders.

    Files are linked where the disk can, copied elsewhere and where they are another user's. Their
    manifests keep the code, the pins and the versions that made them.

    Raises:
        PrunegridError: no reason is given.
        AttestationError: an artifact is not what its manifest says.
    """
    if not because.strip():
        raise PrunegridError("no reason is given", expected="--because 'what you reviewed'")
    taken = []
    for one in found:
        with only_maker(Path(f"{one.node.scratch}.lock"), one.node.label):
            # A job may have made it meanwhile, or what it reads.
            if dropped.is_there(one.node.manifest):
                continue
            if _reads_the_same(one.node, one.manifest, {}):
                _take(one, because)
                taken.append(one.node.path)
    return taken


def _take(one: Upgrade, because: str) -> None:
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
    """Return the manifest under the new key: its parents' keys are the new ones too."""
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
    taken = {
        **manifest,
        "key": one.node.key,
        "parents": parents,
        "lineage": _lineage(one, manifest),
        "adopted": [*manifest.get("adopted", []), decision],
    }
    return sealed(taken)


def _lineage(one: Upgrade, manifest: Mapping[str, Any]) -> list[dict]:
    """Return the lineage by the new keys; a step that was adopted says so."""
    chain = []
    weights = one.node.parents.get("weights") or one.node.parents.get("model")
    while weights is not None:
        chain.insert(0, weights)
        weights = weights.parents.get("weights")
    if len(chain) != len(manifest["lineage"]):
        return list(manifest["lineage"])
    return [
        {**entry, "key": node.key, **_adopted(node)}
        for entry, node in zip(manifest["lineage"], chain, strict=True)
    ]


def _adopted(node: Node) -> dict[str, Any]:
    manifest = _recorded(node)
    return {"adopted": manifest["adopted"]} if "adopted" in manifest else {}


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it where the disk cannot, or where it is another user's to change."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_uid == os.geteuid():
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def _meaning(node: Node, known: dict[Node, str]) -> str:
    """Return a digest of what a node is made of and how, code and versions apart."""
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
        if _tells_all(manifest):
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
    found = {meaning(name): manifests[name] for name in ordered}
    return {key: value for key, value in found.items() if key is not None}


def _tells_all(manifest: Any) -> bool:
    """Return whether a manifest has all that is read of it here, each of its type."""
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
