"""What a study's table will read, as plain builtins: made at start-up, passed to the job."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prunegrid.artifacts import keys
from prunegrid.artifacts.artifact_folder import contents, read_sealed
from prunegrid.artifacts.parts import held_in
from prunegrid.common import plugins
from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import file_sha256
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.config import mixtures, shown
from prunegrid.graph.artifact_graph import CellPlan, Graph

TABLE_ENV = Path("envs/table.yaml")
SUFFIXES = (
    "parquet",
    "long.parquet",
    "pairs.parquet",
    "contrasts.parquet",
    "cliffs.parquet",
    "controls.parquet",
    "examples.parquet",
    "examples.md",
    "csv",
    "md",
    "png",
    "svg",
    "manifest.json",
)


CENSUS_SUFFIXES = (
    *("parquet", "csv", "md", "png", "svg", "depth.png", "depth.svg", "manifest.json"),
)


_REF_FACTS = {"path", "key", "stage", "label", "status"}


def outputs(study: str = "{study}", kind: str = "evaluations") -> list[str]:
    """Return the files of a study's table, the Parquet table first."""
    suffixes = CENSUS_SUFFIXES if kind == "census" else SUFFIXES
    return [f"results/{study}.{suffix}" for suffix in suffixes]


def study_plan(graph: Graph, study_name: str, root: Path) -> dict[str, Any]:
    """Return {study, key, cells, baselines, …}: all that the table's job needs."""
    study = graph.config.profile("studies", study_name)
    if study.kind == "census":
        return _keyed(_census(graph, study_name), "prunegrid.tables.census", root)
    cells = [_cell(graph, study, plan) for plan in graph.plans(study_name)]
    evaluations = [graph.config.profile("evaluations", name) for name in study.evaluations]
    means = {n: m for e in evaluations for n, m in getattr(e, "means", {}).items()}
    baselines = [
        {
            "dataset": dataset,
            "baseline": baseline,
            "role": plugins.baseline_facts(held_in(part.folder))["ROLE"],
            "split": split,
            "data": part.node.parents["data"].ref,
            "cut_references": _cuts_references(graph, study, split),
            "predictions": part.ref,
            "scores": part.ref,
        }
        for (dataset, baseline, split), part in graph.controls(study_name).items()
    ]
    body = {
        "study": study_name,
        "title": study.title,
        "cells": cells,
        "means": {name: mean.model_dump() for name, mean in means.items()},
        "baselines": baselines,
        "expected": [entry.model_dump() for entry in study.expected],
        "published": study.published.model_dump() if study.published else None,
        "contrasts": [_contrast(entry) for entry in study.contrasts],
        "cliffs": [entry.model_dump() for entry in study.cliffs],
        "show": study.show,
        "own_metrics": shown.own_metrics(graph.config, study),
        "bootstrap_seed": graph.config.seed,
    }
    return _keyed(body, "prunegrid.tables.aggregate", root)


def _keyed(body: dict[str, Any], module: str, root: Path) -> dict[str, Any]:
    """Return a plan with its key: itself, the code that makes its table, the pinned packages."""
    code = keys.code_digest((module,))
    pins = keys.read_pins(root / TABLE_ENV)
    identity = {"plan": _identity(body), "code": code, "pins": pins}
    return {**body, "key": keys.digest(identity), "pins": pins}


def _census(graph: Graph, study_name: str) -> dict[str, Any]:
    study = graph.config.profile("studies", study_name)
    return {
        "study": study_name,
        "kind": "census",
        "title": study.title,
        "edges": list(study.edges),
        "zeros": study.zeros,
        "embeddings": study.embeddings,
        "cells": [
            {
                "columns": {
                    "model": plan.cell.model,
                    "prune": plan.cell.names("prune"),
                    "finetune": plan.cell.names("finetune"),
                    "dataset": plan.cell.dataset,
                    "seed": plan.cell.seed,
                },
                "chain": [node.ref for node in plan.chain],
                "ancestors": [node.ref for node in plan.nodes()],
                "census": plan.census.ref,
            }
            for plan in graph.plans(study_name)
        ],
    }


def _cuts_references(graph: Graph, study: Any, split: str) -> bool:
    """Whether the cells of a split are scored against cut references; controls never are."""
    found = (graph.config.profile("evaluations", name) for name in study.evaluations)
    return any(
        graph.config.profile("generation", evaluation.generation).reference_tokens is not None
        for evaluation in found
        if evaluation.kind == "texts" and split in evaluation.splits
    )


def is_stale(plan: dict[str, Any]) -> bool:
    """Whether a table exists that is not this plan's, not whole, damaged, or of other artifacts."""
    kind = plan.get("kind", "evaluations")
    present = [Path(path).exists() for path in outputs(plan["study"], kind)]
    if not any(present):
        return False
    try:
        manifest = read_sealed(Path(f"results/{plan['study']}.manifest.json"))
        if manifest["key"] != plan["key"] or not manifest["complete"]:
            return True
        if contents(manifest["leaves"]) != manifest["leaves"]:
            return True
        files = manifest["files"].items()
        return any(file_sha256(Path("results", name)) != digest for name, digest in files)
    except (AttestationError, OSError, KeyError, TypeError, AttributeError):
        return True  # damaged


def _contrast(entry: Any) -> dict[str, Any]:
    sides = {name: getattr(entry, name).model_dump(exclude_unset=True) for name in ("a", "b")}
    return entry.model_dump(exclude=set(sides)) | sides


def _identity(value: Any) -> Any:
    """Return the plan without what does not change the table: places and labels of artifacts."""
    if isinstance(value, list):
        return [_identity(item) for item in value]
    if isinstance(value, dict):
        if value.keys() >= _REF_FACTS:
            return [value["stage"], value["key"], value.get("folder", "")]
        return {k: _identity(v) for k, v in value.items() if k != "ancestors"}
    return value


def _cell(graph: Graph, study: Any, plan: CellPlan) -> dict[str, Any]:
    cell = plan.cell
    prune = next((s for s in reversed(cell.steps) if s.kind == "prune" and not s.idle), None)
    tuned = [s.profile for s in cell.steps if s.kind == "finetune" and not s.idle]
    trained = [p for p in tuned if plugins.strategy_facts(p.strategy)["TRAINS"]]
    task = graph.config.profile("models", cell.model).task
    evaluations = {name: graph.config.profile("evaluations", name) for name in study.evaluations}
    asked = {name: one for name, one in evaluations.items() if task in one.FITS}
    generations = {
        evaluation.generation
        for evaluation in asked.values()
        if evaluation.kind in ("texts", "translation")
    }
    return {
        "columns": {
            "model": cell.model,
            "prune": cell.names("prune"),
            **_prune_columns(prune.profile if prune else None),
            "calibration": _calibrations(cell.steps),
            "finetune": cell.names("finetune"),
            "strategy": "+".join(profile.strategy for profile in tuned) or "none",
            "arm": cell.arm,
            "loss_on": trained[-1].loss_on if trained else None,
            "tuned_on_tasks": _tuned_on(graph, asked, cell.dataset) if trained else None,
            "dataset": cell.dataset,
            "generation": "+".join(sorted(generations)) or None,
            "seed": cell.seed,
        },
        "chain": [node.ref for node in plan.chain],
        "ancestors": [node.ref for node in plan.nodes()],
        "data": plan.data.ref,
        "texts": {
            split: {"predictions": made.ref, "scores": scores.ref}
            for split, (made, scores) in plan.texts.items()
        },
        "documents": {
            name: {"data": graph.data(evaluation.dataset).ref, "split": evaluation.split}
            for name, evaluation in asked.items()
            if evaluation.kind == "translation"
        },
        "perplexities": {name: node.ref for name, node in plan.perplexities.items()},
        "tasks": {name: part.ref for name, part in plan.tasks.items()},
        "efficiency": plan.efficiency.ref if plan.efficiency else None,
    }


def _tuned_on(graph: Graph, asked: Iterable[str], dataset: str) -> str | None:
    """Return the evaluated tasks whose own data set is learned, joined by '+'."""
    return "+".join(mixtures.tuned_on(graph.config, dataset, list(asked))) or None


def _calibrations(steps: Iterable[Any]) -> str | None:
    """Return the calibration of the last pruning, and of what refits its weights, joined by '+'."""
    acting = [step for step in steps if not step.idle]
    last = max((i for i, step in enumerate(acting) if step.kind == "prune"), default=0)
    names = [getattr(step.profile, "calibration", None) for step in acting[last:]]
    return "+".join(dict.fromkeys(filter(None, names))) or None


def _prune_columns(profile: Any) -> dict[str, Any]:
    """Return the columns that a prune profile fills; None is a dense cell."""
    names = ("pattern", "units", "sparsity_target", "scope", "allocation", "update")
    if profile is None:
        return {"method": "dense", **dict.fromkeys((*names, "propagation"))}
    if profile.pattern == "structured":
        return {
            "method": profile.method,
            "pattern": profile.pattern,
            "units": "+".join(sorted(profile.units)),
            "sparsity_target": profile.sparsity,
            **dict.fromkeys(("scope", "allocation", "propagation")),
            "update": profile.update,
        }
    facts = plugins.method_facts(profile.method)
    needy = facts["NEEDS"] != "nothing" or (
        profile.update and plugins.update_facts(profile.update)["NEEDS"] != "nothing"
    )
    nm = parse_nm(profile.pattern)
    return {
        "method": profile.method,
        "pattern": profile.pattern,
        "units": None,
        "sparsity_target": profile.sparsity if nm is None else 1 - nm[0] / nm[1],
        "scope": (profile.scope or facts["SCOPE"]) if nm is None else None,
        "allocation": profile.allocation if nm is None else None,
        "update": profile.update,
        "propagation": profile.propagation if needy else None,
    }
