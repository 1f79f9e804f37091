"""The drawer of each row: which weights were measured, how they were made, how to have them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from prunegrid.artifacts.artifact_folder import is_dropped
from prunegrid.common.file_io import canonical_json
from prunegrid.graph.stage_facts import stage_facts
from prunegrid.tables.loading_snippets import artifact_lines
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.page.step_reports import manifest_of, report_of
from prunegrid.tables.schema import CELL, Row, cell_key, cell_title

ORDER = 100
TITLE = "Rows: how each came about"
# Of all drawers. From half of it on they are without steps; beyond it steps have no settings.
BYTES = 1_000_000
LONGEST = 2500  # characters of a step's settings
_PLAIN = ("key", "content", "device", "threads", "compute_dtype", "seconds", "python")
_COLUMNS = ("method", "pattern", "sparsity_target", "strategy", "weight_precision", "adapter")

_LEFT_OUT = (
    "<p>The steps are left out, to keep the page small: see the column <code>lineage</code>.</p>"
)

Manifests = Mapping[str, Mapping[str, Any] | None]  # by folder; None of a step that was not made


def part(facts: PageFacts) -> Part:
    """Return the part: a drawer for each row, and a template for each step that any rests on."""
    rows = facts.wide.drop_duplicates(list(CELL)).to_dict("records")
    refs = {ref["path"]: ref for cell in facts.plan["cells"] for ref in cell["ancestors"]}
    manifests = {path: manifest_of(ref) for path, ref in refs.items()}
    texts, size, steps, dropped = [], 0, {}, 0
    for number, (cell, row) in enumerate(zip(facts.plan["cells"], rows, strict=True)):
        if size >= BYTES:
            dropped += 1
            continue
        is_whole = size < BYTES / 2
        texts.append(_drawer(number, facts.plan["study"], cell, row, manifests, is_whole=is_whole))
        size += len(texts[-1].encode())
        steps |= {ref["path"]: ref for ref in cell["ancestors"]} if is_whole else {}
    if dropped:
        texts.append(f"<p>{dropped} more rows have no drawer, to keep the page small.</p>")
    for path, ref in steps.items():
        texts.append(_step(ref, manifests[path], with_settings=size < BYTES))
        size += len(texts[-1].encode())
    return Part(
        "rows",
        TITLE,
        "Each row opens, here or from the table above: it says which weights were measured, which "
        "steps made them, how to make them again and how to load them.",
        html="".join(texts),
    )


def _drawer(
    number: int,
    study: str,
    cell: Mapping[str, Any],
    row: Row,
    manifests: Manifests,
    *,
    is_whole: bool,
) -> str:
    """Return what opens for one row; `cell-<its number in the table>` leads to it.

    Args:
        is_whole: whether its steps are shown too.
    """
    weights = cell["chain"][-1]
    facts = {"status": row["status"], "reason": row["reason"]}
    facts |= {"digest of the evaluated weights": row["weights_sha256"]}
    facts |= {"folder": weights["path"], "seed": row["seed"]}
    facts |= {name.replace("_", " "): row.get(name) for name in _COLUMNS}
    facts["versions"] = _versions(json.loads(row["versions"])) if _known(row, "versions") else None
    lineage = _lineage(cell["ancestors"], manifests) if is_whole else _LEFT_OUT
    parts = [_list(facts), "<h4>How it came about</h4>", lineage]
    parts += ["<h4>Make it again</h4>", _again(study, row, weights)]
    if manifests[weights["path"]]:
        parts += [
            "<h4>Load it in Python</h4>",
            _load(weights, manifests[weights["path"]], manifests[cell["chain"][0]["path"]]),
        ]
    key = escape(canonical_json([_plain(value) for value in cell_key(row)]))
    title = f"<summary>{escape(cell_title(row))}</summary>"
    about = f'id="cell-{number}" data-cell="{key}"'
    return f'<details class="drawer" {about}>{title}{"".join(parts)}</details>'


def _plain(value: Any) -> Any:
    """Return a key's value as JSON can hold it: a seed is an integer of numpy."""
    return value if value is None or isinstance(value, str) else int(value)


def _known(row: Row, name: str) -> bool:
    return isinstance(row.get(name), str)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _list(facts: Mapping[str, Any]) -> str:
    """Return facts as a list of terms, without those that are not known."""
    items = (
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in facts.items()
        if value is not None and value == value and str(value) != "<NA>"
    )
    return f"<dl>{''.join(items)}</dl>"


def _lineage(refs: Sequence[Mapping[str, str]], manifests: Manifests) -> str:
    """Return the steps of a cell as columns, each right of those that it reads."""
    columns: dict[int, list[str]] = {}
    depths: dict[str, int] = {}
    titles: dict[str, str] = {}
    for ref in refs:  # parents before children
        manifest = manifests[ref["path"]]
        parents = [parent["key"] for parent in (manifest or {}).get("parents", {}).values()]
        depth = 1 + max((depths.get(parent, 0) for parent in parents), default=0)
        if manifest is None:  # what it reads is not known, and nothing that was made reads it
            depth = 1 + max(depths.values(), default=0)
        does, name = stage_facts(ref["stage"]).does, _name(ref)
        depths[ref["key"]], titles[ref["key"]] = depth, f"{does} {name}".strip()
        reads = ", ".join(titles[parent] for parent in parents if parent in titles)
        about = f"reads: {reads}" if reads else "" if manifest else "not made"
        columns.setdefault(depth, []).append(
            f'<li><details data-clone="step-{escape(ref["key"])}"><summary><b>{escape(does)}</b> '
            f"{escape(name)}</summary></details><small>{escape(about)}</small></li>"
        )
    listed = "".join(f"<li><ul>{''.join(columns[depth])}</ul></li>" for depth in sorted(columns))
    return f'<ol class="lineage" aria-label="steps, the first one first">{listed}</ol>'


def _name(ref: Mapping[str, str]) -> str:
    """Return a step's own name: the last part of its label, without the word for what it does.

    A step that is named by that word alone has none.
    """
    last = ref["label"].rpartition(" > ")[2]
    first, _, rest = last.partition(" ")
    does = (ref["stage"], stage_facts(ref["stage"]).does)
    if last in does:
        return ""
    return rest if rest and first in does else last


def _again(study: str, row: Row, weights: Mapping[str, str]) -> str:
    """Return the command that makes a row's weights again, or finishes the row."""
    if row["status"] != "ok":
        command = f"prunegrid run {shlex.quote(study)}"
        return f"<p>Run the study again: finished steps are kept.</p>{_code([command])}"
    folder = shlex.quote(weights["path"])
    commands = [f"rm -r {folder}", f"snakemake --cores all -- {folder}/manifest.json"]
    return (
        "<p>In the folder of the Snakefile, with the --configfile of the study if it had one; "
        f"the folder of these weights is removed first.</p>{_code(commands)}"
    )


def _load(
    weights: Mapping[str, str], manifest: Mapping[str, Any], model: Mapping[str, Any] | None
) -> str:
    """Return the lines that load a row's weights; `model` is the manifest of its first step."""
    files = manifest.get("files", {})
    name = "base/config.json" if "base/config.json" in files else "config.json"
    quantized = "quantization_config" in (report_of(weights, name) or {})
    task = (model or {}).get("settings", {}).get("task", "causal-lm")
    lines = _code(artifact_lines(weights["path"], files, task, quantized=quantized))
    if is_dropped(Path(weights["path"])):
        return f"<p>The weights were dropped to save space: make them again first.</p>{lines}"
    return lines


def _code(lines: Sequence[str]) -> str:
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def _step(
    ref: Mapping[str, str], manifest: Mapping[str, Any] | None, *, with_settings: bool
) -> str:
    """Return the template of one step: its settings, versions and digests."""
    facts: dict[str, Any] = {"folder": ref["path"]}
    settings = ""
    if manifest:
        facts |= {name.replace("_", " "): manifest.get(name) for name in _PLAIN}
        facts |= {"versions": _versions(manifest.get("versions", {}))}
        text = json.dumps(manifest.get("settings", {}), indent=1, sort_keys=True)
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… (all: manifest.json)"
        settings = f"<h5>Settings</h5>{_code([text])}" if with_settings else ""
    else:
        facts["status"] = "not made"
    title = f"<h4>{escape(stage_facts(ref['stage']).does)}: {escape(ref['label'])}</h4>"
    return f'<template id="step-{escape(ref["key"])}">{title}{_list(facts)}{settings}</template>'
