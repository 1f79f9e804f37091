"""Folders of made-up steps, and the facts of a study that a part of its page reads."""

from __future__ import annotations

from pathlib import Path

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.tables.files import typed_frame
from prunegrid.tables.page.part import PageFacts
from prunegrid.tables.schema import CLIFFS, COLUMNS, LONG

CELL = {"model": "m", "prune": "w50", "finetune": "none", "dataset": "d", "seed": None}


def step(folder: Path, stage: str, key: str, files=None, parents=(), label=None, **facts) -> dict:
    """Write a step's folder with JSON files and its manifest; return its entry in a plan.

    Args:
        files: {name: content}.
        parents: entries of the steps that it reads.
    """
    path = folder / stage / key
    for name, content in (files or {}).items():
        file_io.write_json(path / name, content)
    path.mkdir(parents=True, exist_ok=True)
    listed = artifact_folder.list_files(path)
    read = {str(n): {"stage": p["stage"], "key": p["key"]} for n, p in enumerate(parents)}
    manifest = {"stage": stage, "key": key, "files": listed, "parents": read, "settings": {}}
    content = artifact_folder.content_digest(listed)
    manifest |= {"versions": {"torch": "2.0"}, "content": content} | facts
    file_io.write_json(path / "manifest.json", manifest)
    label = label or f"m > {stage} {key}"
    return {"path": str(path), "stage": stage, "key": key, "label": label, "status": "none"}


def cell(*chain: dict, others=(), **columns) -> dict:
    """Return a plan's cell of some steps; `others` are what its row rests on beside them."""
    ancestors = [*chain, *others]
    return {"columns": CELL | columns, "chain": list(chain), "ancestors": ancestors}


def facts(cells, rows=None, long=(), **more) -> PageFacts:
    """Return the facts of a study of such cells, whose rows are `ok` unless others are given."""
    if rows is None:
        rows = [{"status": "ok", "weights_sha256": "f" * 64} for _ in cells]
    whole = [{"study": "s"} | c["columns"] | row for c, row in zip(cells, rows, strict=True)]
    plan = {"study": "s", "title": "", "cells": cells, "bootstrap_seed": 0, "means": {}}
    frames = {"cliffs.": typed_frame([], CLIFFS)}
    known = {"plan": plan, "wide": typed_frame(whole, COLUMNS), "frames": frames}
    known |= {"tall": typed_frame(list(long), LONG), "groups": [], "known": [], "notes": []}
    return PageFacts(**{**known, "scored": [], "results": Path("results"), **more})
