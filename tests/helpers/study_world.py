"""A study of four cells over profiles of config.yaml, and artifacts of it without a model."""

from __future__ import annotations

from pathlib import Path

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import WEIGHTS_MADE, Node
from tests.helpers import ROOT, shipped


def graph(evaluations=("wikipedia-512",), tunings=("none", "demo-full"), **top) -> Graph:
    """Return the graph of study `s`: two prunings by two tunings of SmolLM2-135M."""
    raw = shipped.config()
    grid = {
        "model": "smollm2-135m",
        "prune": ["dense", "wiki-wanda-50"],
        "finetune": list(tunings),
    }
    raw["studies"] = {"s": {"dataset": "aclsum", "grid": grid, "evaluations": list(evaluations)}}
    return Graph(validate(raw | top, shipped.FILES, ROOT), ROOT)


def make(node: Node, *, parameters: int = 1000, seconds: float = 10.0, **facts) -> Path:
    """Write the artifact of a node below the working directory; return its folder."""
    with artifact_folder.writing(node.path) as out:
        (out / "small.json").write_text(node.label)
        if node.stage in ("model", *WEIGHTS_MADE):
            (out / "model.safetensors").write_bytes(bytes(4 * parameters))
        files = artifact_folder.list_files(out)
        parents = {
            role: artifact_folder.recorded(parent.path) for role, parent in node.parents.items()
        }
        weights = parents.get("weights") or parents.get("model")
        kept = ("key", "stage", "content")
        manifest = {
            "stage": node.stage,
            "key": node.key,
            "label": node.label,
            "settings": node.settings,
            "code": node.code,
            "pins": node.pins,
            "parents": {r: {fact: p[fact] for fact in kept} for r, p in parents.items()},
            "lineage": [*weights["lineage"], {f: weights[f] for f in (*kept, "label")}]
            if weights
            else [],
            "threads": node.threads,
            "device": node.device,
            "compute_dtype": node.compute_dtype,
            "seconds": seconds,
            "peak_memory_bytes": 10**8,
            "files": files,
            "content": artifact_folder.content_digest(files),
            "record": {"weights": {"parameters": parameters}},
            **facts,
        }
        file_io.write_json(out / artifact_folder.MANIFEST, manifest)
    return node.path
