"""Reasons why the steps of a cell would run again, or ran: what differs from what was made before.

A manifest records what entered its artifact's key. So a step is compared with the newest finished
artifact of the same stage and label: settings, parents, package versions, code, and where the step
computes threads, device and precision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder, dropped, keys
from prunegrid.artifacts.keys import KEY_LENGTH
from prunegrid.common.errors import AttestationError, PrunegridError, nearest
from prunegrid.common.source_code import LIBRARY, PACKAGE
from prunegrid.config.cells import Cell
from prunegrid.graph.artifact_graph import CellPlan, Graph
from prunegrid.graph.nodes import Node, with_ancestors, without_paths
from prunegrid.graph.pending import pending

SHORTEST_KEY = 6
LONGEST_VALUE = 60
MOST_FILES = 5  # files of code that are named
MANIFESTS = (artifact_folder.MANIFEST, artifact_folder.DROPPED)
# An artifact: its folder and manifest.
Made = tuple[Path, Mapping[str, Any]]


def lines(graph: Graph, study: str, text: str) -> list[str]:
    """Return why the steps of a cell would run or ran, as lines.

    Args:
        text: the cell as the table names it, `model / prune / finetune / seed 0` or some of these
            in that order; or the beginning of a step's key.

    Raises:
        PrunegridError: there is no such cell or step, or there are several.
    """
    leaves, weights = _leaves(graph, study, text)
    nodes, todo = with_ancestors(leaves), set(pending(leaves))
    made = {folder: _by_label(folder) for folder in {node.path.parent for node in nodes}}
    shown = [node for node in nodes if node in todo or not todo]
    told = [line for node in shown for line in _of_step(node, node in todo, _newest(node, made))]
    if not todo:
        made = f"{study}, {text}: whole, none of {len(nodes)} steps would run"
        return [made, *told, f"  it lies in {weights.path}"]
    return [f"{study}, {text}: {len(todo)} of {len(nodes)} steps would run", *told]


def _leaves(graph: Graph, study: str, text: str) -> tuple[list[Node], Node]:
    """Return the nodes that a cell's row is read from, and its weights; or the node of a key."""
    plans = graph.plans(study)
    wanted = [part.strip() for part in text.split("/")]
    chosen = [plan for plan in plans if _holds(title(plan.cell).split(" / "), wanted)]
    exact = [plan for plan in chosen if _short(plan.cell) == wanted]
    chosen = exact if len(exact) == 1 else chosen
    if len(chosen) == 1:
        return chosen[0].leaves(), chosen[0].chain[-1]
    if not chosen and len(text) >= SHORTEST_KEY:
        nodes = with_ancestors(graph.study_leaves(study))
        found = [node for node in nodes if node.key.startswith(text)]
        if len(found) == 1:
            return found, found[0]
    raise _unclear(study, text, chosen or plans, bool(chosen))


def _unclear(study: str, text: str, plans: list[CellPlan], several: bool) -> PrunegridError:
    titles = [title(plan.cell) for plan in plans]
    if several:
        names = "; ".join(titles)
        return PrunegridError(
            f"{len(titles)} cells of {study} are called '{text}'", remedy=f"name one of: {names}"
        )
    close = nearest(text, [" / ".join(_short(plan.cell)) for plan in plans] + titles)
    return PrunegridError(f"{study} has no cell or step '{text}'", remedy=close)


def title(cell: Cell) -> str:
    """Return a cell's name for people: model / prune / finetune / seed."""
    names = [cell.model, *_short(cell)]
    return " / ".join(names if cell.seed is None else [*names, f"seed {cell.seed}"])


def _short(cell: Cell) -> list[str]:
    return [cell.names("prune"), cell.names("finetune")]


def _holds(parts: list[str], wanted: list[str]) -> bool:
    """Return whether all wanted parts stand in a name, in their order."""
    rest = iter(parts)
    return all(part in rest for part in wanted)


def _of_step(node: Node, runs: bool, earlier: Made | None) -> Iterator[str]:
    """Yield the lines of one step; none of one that is whole and has no predecessor."""
    there = dropped.is_there(node.manifest)
    fault = _damage(node) if there else ""
    if not (runs or fault or earlier):
        return
    state = (
        "is damaged" if fault else "would run" if runs else "is made" if there else "is not needed"
    )
    yield f"  {node.label} (key {node.key}) {state}"
    if fault:
        yield f"    {fault}; mend it: prunegrid repair"
    elif runs and there:
        yield "    its weights were dropped (keep_weights: until_used), and a step reads them"
    elif earlier is None:
        yield "    it was never made"
    else:
        folder, manifest = earlier
        yield f"    compared with the newest of the same step, {folder}:"
        yield from (f"    - {reason}" for reason in reasons(node, manifest, _made_at(folder)))


def _damage(node: Node) -> str:
    """Return what is wrong with an artifact by its manifest and sizes; "" if nothing is."""
    try:
        artifact_folder.read_manifest(node.path, node.key, check_files=False)
    except AttestationError as error:
        return error.what
    return ""


def _made_at(folder: Path) -> float:
    """Return when an artifact was made, in seconds of the epoch; 0 if its manifest is gone."""
    files = [path for path in map(folder.joinpath, MANIFESTS) if path.is_file()]
    return min((path.stat().st_mtime for path in files), default=0.0)


def reasons(node: Node, manifest: Mapping[str, Any], made_at: float = 0.0) -> list[str]:
    """Return in sentences what makes a node's key another than that of an artifact's manifest.

    Args:
        made_at: when the artifact was made; files of code that were written later are named.
    """
    settings = _changed(
        _flat(without_paths(dict(manifest.get("settings", {})))),
        _flat(without_paths(json.loads(json.dumps(node.settings)))),
    )
    told = [_sentence(f"this step's setting `{name}`", *values) for name, *values in settings]
    recorded = manifest.get("parents", {})
    for role in sorted(recorded.keys() | node.parents.keys()):
        parent = node.parents.get(role)
        before = recorded.get(role, {}).get("key")
        if parent is None:
            told.append(f"it read {role} from another step (key {before}), and does not now")
        elif before is None:
            told.append(f"it reads {role} from {parent.label} (key {parent.key}), and did not")
        elif parent.key != before:
            told.append(
                f"the step that it reads {role} from, {parent.label}, is another: its key was "
                f"{before} and is {parent.key} now"
            )
    versions = _changed(manifest.get("pins", {}), node.pins)
    told += [_sentence(f"the version of {name}", *values) for name, *values in versions]
    if manifest.get("code") != node.code:
        told.append(_code(node, made_at))
    if node.compute_dtype is not None:
        before = {name: manifest.get(name) for name in ("threads", "device", "compute_dtype")}
        before["device"] = str(before["device"]).partition(":")[0]
        now = {name: getattr(node, name) for name in before}
        told += [
            _sentence(f"`{name}` of the run", *values) for name, *values in _changed(before, now)
        ]
    return told or ["nothing that is recorded differs: the version of prunegrid's keys does"]


def _sentence(what: str, before: str | None, now: str | None) -> str:
    """Return how a value has changed; None stands for one that is not set."""
    if before is None:
        return f"{what} is {now} now, and was not set before"
    if now is None:
        return f"{what} was {before}, and is not set now"
    return f"{what} was {before}, and is {now} now"


def _code(node: Node, made_at: float) -> str:
    """Return that a step's code has changed, with what of it was written since it was made."""
    own = [Path(root) for root in node.roots if root.endswith(".py")]
    modules = [root for root in node.roots if not root.endswith(".py")]
    files = {path for path, _ in keys.reached([*own, *modules])}
    late = sorted(_told(path) for path in files if path.stat().st_mtime > made_at)
    # After a download of prunegrid all files are younger, which tells nothing.
    if late and len(late) <= MOST_FILES and len(late) < len(files):
        return f"the code that it runs has changed; written since then: {', '.join(late)}"
    plugins = f", or that of {', '.join(map(str, own))}," if own else ""
    return f"prunegrid's code that it runs{plugins} has changed"


def _told(path: Path) -> str:
    home = LIBRARY / PACKAGE
    return str(path.relative_to(home) if path.is_relative_to(home) else path)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return {dotted name: value} of nested settings."""
    if not isinstance(value, Mapping) or not value:
        return {name: value}
    return {
        path: leaf
        for key, inner in value.items()
        for path, leaf in _flat(inner, f"{name}.{key}" if name else str(key)).items()
    }


def _changed(before: Mapping, now: Mapping) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield (name, old value, new value) of all that differ; None for one that is not set."""
    for name in sorted(before.keys() | now.keys()):
        old, new = (_shown(one[name]) if name in one else None for one in (before, now))
        if name not in before or name not in now or before[name] != now[name]:
            yield name, old, new


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    if re.fullmatch("[0-9a-f]{64}", text):  # a digest of files
        return text[:KEY_LENGTH]
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _newest(node: Node, made: Mapping[Path, Mapping[str, list[Made]]]) -> Made | None:
    """Return the newest other artifact of a node's stage and label; None without."""
    known = made[node.path.parent].get(node.label, [])
    return next((one for one in known if one[1].get("key") != node.key), None)


def _by_label(stage: Path) -> dict[str, list[Made]]:
    """Return {label: its artifacts, the newest first} of a stage's folder."""
    found: dict[str, list[Made]] = {}
    folders = [path for path in stage.glob("*") if path.is_dir() and path.name[0] != "."]
    for folder in sorted(folders, key=lambda path: -path.stat().st_mtime):
        try:
            manifest = artifact_folder.recorded(folder)
        except AttestationError:
            continue
        if isinstance(manifest, dict) and isinstance(manifest.get("label"), str):
            found.setdefault(manifest["label"], []).append((folder, manifest))
    return found
