"""The plan of a study's table, all that its job reads: plain builtins, made at start-up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from prunegrid.graph.nodes import RESULTS
from prunegrid.tables.page import part_files
from prunegrid.tables.table_names import outputs

TABLE_ENV, LOCK = Path("envs/table.yaml"), Path("requirements.lock")
_REF_FACTS = {"path", "key", "stage", "label", "status"}


def study_plan(graph: Graph, study_name: str, root: Path) -> dict[str, Any]:
    """Return {study, key, cells, baselines, …}: all that the table's job needs.

    Its key is made of itself, the code that makes its table and page, and the pinned packages.
    """
    study = graph.config.profile("studies", study_name)
    is_census = study.kind == "census"
    body = _census(graph, study_name) if is_census else _evaluations(graph, study_name)
    table = f"prunegrid.tables.{'census' if is_census else 'aggregate'}"
    code = keys.code_digest((table, *part_files.modules()))
    pins = keys.read_pins(root / TABLE_ENV)
    identity = {"plan": _identity(body), "code": code, "pins": pins}
    identity["page"] = part_files.static_digest()
    lock = root / LOCK
    about = {"pins": pins, "lock": file_sha256(lock) if lock.is_file() else None}
    return {**body, "key": keys.digest(identity), **about}


def _evaluations(graph: Graph, study_name: str) -> dict[str, Any]:
    """Return the plan of a study that evaluates its cells."""
    study = graph.config.profile("studies", study_name)
    evaluations = [graph.config.profile("evaluations", name) for name in study.evaluations]
    means = {n: m for e in evaluations for n, m in getattr(e, "means", {}).items()}
    baselines = [
        {
            "dataset": dataset,
            "baseline": baseline,
            "role": plugins.baseline_facts(held_in(part.folder))["ROLE"],
            "split": split,
            "data": part.node.parents["data"].ref,
            "cut_references": _cuts_references(graph, evaluations, split),
            "predictions": part.ref,
            "scores": part.ref,
        }
        for (dataset, baseline, split), part in graph.controls(study_name).items()
    ]
    return {
        "study": study_name,
        "title": study.title,
        "cells": [_cell(graph, study, plan) for plan in graph.plans(study_name)],
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


def _census(graph: Graph, study_name: str) -> dict[str, Any]:
    """Return the plan of a study that counts the weights of its cells."""
    study = graph.config.profile("studies", study_name)
    return {
        "study": study_name,
        "kind": "census",
        "title": study.title,
        "edges": list(study.edges),
        "zeros": study.zeros,
        "embeddings": study.embeddings,
        "cells": [
            {"columns": _names(plan.cell), **_steps(plan), "census": plan.census.ref}
            for plan in graph.plans(study_name)
        ],
    }


def _cuts_references(graph: Graph, evaluations: Sequence[Any], split: str) -> bool:
    """Return whether the cells of a split are scored against cut references; controls never are."""
    return any(
        graph.config.profile("generation", evaluation.generation).reference_tokens is not None
        for evaluation in evaluations
        if evaluation.kind == "texts" and split in evaluation.splits
    )


def is_stale(plan: dict[str, Any], results: Path = RESULTS) -> bool:
    """Return whether a table exists that is not whole (`is_whole`)."""
    paths = outputs(plan["study"], plan.get("kind", "evaluations"), results)
    return any(Path(path).exists() for path in paths) and not is_whole(plan, results)


def is_whole(plan: dict[str, Any], results: Path = RESULTS) -> bool:
    """Return whether a table is there, of this plan and these artifacts, complete and undamaged."""
    manifest = _finished(plan["study"], results)
    try:
        is_its = manifest["key"] == plan["key"]
        return is_its and contents(manifest["leaves"]) == manifest["leaves"]
    except (AttestationError, OSError, KeyError, TypeError, AttributeError):
        return False  # damaged


def is_finished(study: str, results: Path = RESULTS) -> bool:
    """Return whether a table is there, complete and undamaged, of this or of an earlier plan."""
    return bool(_finished(study, results))


def _finished(study: str, results: Path) -> dict[str, Any]:
    """Return the manifest of a table that is complete and undamaged; {} without one."""
    try:
        manifest = read_sealed(results / f"{study}.manifest.json")
        files = manifest["files"].items()
        is_undamaged = all(file_sha256(results / name) == digest for name, digest in files)
        return manifest if manifest["complete"] and is_undamaged else {}
    except (AttestationError, OSError, KeyError, TypeError, AttributeError):
        return {}


def statuses(plan: dict[str, Any]) -> set[str]:
    """Return the status records of all steps that a table depends on."""
    refs = [ref for cell in plan["cells"] for ref in cell["ancestors"]]
    refs += [control[role] for control in plan.get("baselines", ()) for role in ("data", "scores")]
    return {ref["status"] for ref in refs}


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


def _names(cell: Any) -> dict[str, Any]:
    """Return the columns that say which cell it is."""
    steps = {"prune": cell.names("prune"), "finetune": cell.names("finetune")}
    return {"model": cell.model, **steps, "dataset": cell.dataset, "seed": cell.seed}


def _steps(plan: CellPlan) -> dict[str, list]:
    """Return the artifacts that change a cell's weights, and all that its row depends on."""
    chain, ancestors = plan.chain, plan.nodes()
    return {"chain": [node.ref for node in chain], "ancestors": [node.ref for node in ancestors]}


def _cell(graph: Graph, study: Any, plan: CellPlan) -> dict[str, Any]:
    profiles = {name: graph.config.profile("evaluations", name) for name in study.evaluations}
    task = graph.config.profile("models", plan.cell.model).task
    evaluations = {name: profile for name, profile in profiles.items() if task in profile.FITS}
    return {
        "columns": _columns(graph, evaluations, plan.cell),
        **_steps(plan),
        "data": plan.data.ref,
        "learned": list(_learned(graph, plan.cell)),
        "scored": _scored(graph, evaluations, plan.cell),
        "texts": {
            split: {"predictions": predictions.ref, "scores": scores.ref}
            for split, (predictions, scores) in plan.texts.items()
        },
        "documents": {
            name: {"data": graph.data(evaluation.dataset).ref, "split": evaluation.split}
            for name, evaluation in evaluations.items()
            if evaluation.kind == "translation"
        },
        "perplexities": {name: node.ref for name, node in plan.perplexities.items()},
        "tasks": {name: part.ref for name, part in plan.tasks.items()},
        "efficiency": plan.efficiency.ref if plan.efficiency else None,
    }


def _learned(graph: Graph, cell: Any) -> Iterator[dict[str, Any]]:
    """Yield the texts that a cell was tuned or calibrated on, with which of both as `use`."""
    for step in cell.acting:
        profile = step.profile
        if step.trains:
            rows = profile.rows if profile.window is None else None
            for texts in _texts(graph, cell.dataset, (), profile.split, rows):
                yield {**texts, "use": "tuned"}
        drawn = graph.config.sections["calibration"].get(profile.calibration)
        if drawn is not None:
            for texts in _texts(graph, drawn.dataset, (), drawn.split, None):
                yield {**texts, "use": "calibrated"}


def _scored(graph: Graph, evaluations: dict[str, Any], cell: Any) -> dict[str, Any]:
    """Return {name in the table: its texts, and those that a head of its own learns}."""
    scored = {}
    for name, evaluation in evaluations.items():
        for asked in evaluation.asks(graph.config, name, cell):
            read = asked.reads or asked
            parts = read.settings.get("tasks", [read.settings])
            places = zip(asked.names, read.data.values(), parts, strict=False)
            for label, (dataset, splits), part in places:
                if "split" not in part:  # a kind of evaluation that scores no texts of a split
                    continue
                # Of a group each member has so many rows.
                rows = None if part.get("by") else part.get("rows")
                texts = list(_texts(graph, dataset, splits, part["split"], rows))
                head, few = part.get("train_split"), part.get("train_rows")
                heads = list(_texts(graph, dataset, splits, head, few)) if head else []
                if texts:
                    scored[label] = {"texts": texts[0], "heads": heads}
    return scored


def _texts(
    graph: Graph, dataset: str, splits: tuple[str, ...], split: str, rows: int | None
) -> Iterator[dict[str, Any]]:
    """Yield where the first `rows` texts of a split stand; nothing if their columns are not known.

    Args:
        splits: those of the artifact (see `Graph.part`).
    """
    columns = graph.config.profile("datasets", dataset).text_columns
    if columns is not None:
        data = graph.part(dataset, *splits).ref
        yield {"data": data, "split": split, "columns": columns, "rows": rows}


def _columns(graph: Graph, evaluations: dict[str, Any], cell: Any) -> dict[str, Any]:
    """Return the columns of a cell that its profiles fill."""
    acting = [step for step in cell.steps if not step.idle]
    pruned = [step.profile for step in acting if step.kind == "prune"]
    tuned = [step.profile for step in acting if step.kind == "finetune"]
    trained = [p for p in tuned if plugins.strategy_facts(p.strategy)["TRAINS"]]
    on_tasks = mixtures.tuned_on(graph.config, cell.dataset, list(evaluations)) if trained else ()
    generations = {e.generation for e in evaluations.values() if e.kind in ("texts", "translation")}
    return {
        **_names(cell),
        **_prune_columns(pruned[-1] if pruned else None),
        "calibration": _calibrations(acting),
        "strategy": "+".join(profile.strategy for profile in tuned) or "none",
        "arm": cell.arm,
        "loss_on": trained[-1].loss_on if trained else None,
        "tuned_on_tasks": "+".join(on_tasks) or None,
        "generation": "+".join(sorted(generations)) or None,
    }


def _calibrations(acting: Sequence[Any]) -> str | None:
    """Return the calibration of the last pruning, and of what refits its weights, joined by '+'."""
    last = max((i for i, step in enumerate(acting) if step.kind == "prune"), default=0)
    names = [getattr(step.profile, "calibration", None) for step in acting[last:]]
    return "+".join(dict.fromkeys(filter(None, names))) or None


# Parts of a pruning step that follow the criterion, and see the inputs that it sees.
AFTER_CRITERION = ("refine", "update")


def _prune_columns(profile: Any) -> dict[str, Any]:
    """Return the columns that a prune profile fills; None is a dense cell."""
    names = ("pattern", "units", "sparsity_target", "scope", "allocation", "propagation", "exclude")
    columns = dict.fromkeys((*names, *AFTER_CRITERION))
    if profile is None:
        return {"method": "dense", **columns}
    columns |= {"method": profile.method, "pattern": profile.pattern}
    columns |= {part: getattr(profile, part) for part in AFTER_CRITERION}
    if profile.pattern == "structured":
        units = "+".join(sorted(profile.units))
        return columns | {"units": units, "sparsity_target": profile.sparsity}
    columns["exclude"] = " ".join(profile.exclude) or None
    if any(need != "nothing" for need in plugins.needs_of(profile, AFTER_CRITERION)):
        columns["propagation"] = profile.propagation
    if nm := parse_nm(profile.pattern):
        return columns | {"sparsity_target": 1 - nm[0] / nm[1]}
    scope = profile.scope or plugins.method_facts(profile.method)["SCOPE"]
    ranked = {"scope": scope, "allocation": profile.allocation}
    return columns | ranked | {"sparsity_target": profile.sparsity}
