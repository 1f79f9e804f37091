"""Records of Every Eval Ever (schema 0.3.0): one JSON file a cell, a result for each of its scores.

The files lie as the collection of that project has them: `data/<study>/<developer>/<model>/`. A
dense cell has the name of its source; a pruned or tuned one is a model of the study's own, since
no one has published its weights. Facts without a field of their own are texts in
`additional_details`.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas

from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import canonical_json, json_sha256, write_json
from prunegrid.tables.formats import Said
from prunegrid.tables.headline import is_perplexity
from prunegrid.tables.intervals import RESAMPLES
from prunegrid.tables.schema import PROVENANCE, Row, cell_key
from prunegrid.tables.study_tables import StudyTables, manifest_of

SCHEMA_VERSION = "0.3.0"
UNSAID = "not stated"
# Columns of a row, and of a score, that have no field of their own.
OF_ROW = ("prune", "method", "pattern", "sparsity_target", "sparsity_effective", "removed_prunable")
OF_ROW += ("finetune", "strategy", "weight_precision", "seed", "weights_sha256", "adapter")
OF_ROW += ("parameters", "nonzero_parameters", "file_bytes", "bytes_packed")
OF_SCORE = ("chance", "majority", "at_chance", "near_dense", "contexts_cut", "learned_share")
OF_SCORE += ("flagged", "shots", "task_version", "harness")

Record = dict[str, Any]


def write(tables: StudyTables, out: Path, said: Said) -> list[str]:
    """Fill the folder `out` with a record a cell; return how many, and how many cells have none.

    Raises:
        PrunegridError: the study is a census, which has no scores.
    """
    if tables.long is None:
        raise PrunegridError("a census has no scores", where=f"study {tables.name}")
    scores: dict[tuple, list[Row]] = {}
    for row in tables.long[tables.long["kind"] == "cell"].to_dict("records"):
        if known(row["value"]) is not None:
            scores.setdefault(cell_key(row), []).append(row)
    count = 0
    for cell, row in tables.cells():
        results = [result(tables, cell, one) for one in scores.get(cell_key(row), [])]
        if results:
            body = record(tables, cell, row, said) | {"evaluation_results": results}
            count += 1
            write_json(out / place(tables.name, body), body)
    left = len(tables.wide) - count
    lost = f"; {left} of {len(tables.wide)} cells have no scores" if left else ""
    return [f"{count} records{lost}"]


def known(value: Any) -> Any:
    """Return a value of a table, None for a null of any kind."""
    return None if pandas.isna(value) else value


def texts(row: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, str]:
    """Return {name: text} of those facts of a row that it has."""
    return {name: str(row[name]) for name in names if known(row.get(name)) is not None}


def place(study: str, body: Record) -> Path:
    """Return where a record lies: its name is a UUID of its content, in the form of version 4."""
    digest = bytes.fromhex(json_sha256(body))
    developer, _, model = body["model_info"]["id"].partition("/")
    name = f"{uuid.UUID(bytes=digest[:16], version=4)}.json"
    return Path("data", study, developer, model.replace("/", "_"), name)


def record(tables: StudyTables, cell: Mapping[str, Any], row: Row, said: Said) -> Record:
    """Return the record of a cell without its results."""
    written = int(tables.manifest_path.stat().st_mtime)
    model = model_info(tables, cell, row)
    versions = texts(row, tuple(column.name for column in PROVENANCE))
    library = {"name": "prunegrid", "version": tables.manifest["prunegrid"]}
    source = {"source_name": tables.plan["title"] or tables.name, "source_type": "evaluation_run"}
    source["source_organization_name"] = said.organization or UNSAID
    source["evaluator_relationship"] = "other" if is_published(cell) else "first_party"
    source["additional_details"] = {"study": tables.name, "table_key": tables.manifest["key"]}
    key = json_sha256([tables.manifest["key"], *map(str, cell_key(row))])
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{tables.name}/{model['id']}/{key[:16]}",
        "retrieved_timestamp": str(written),
        "source_metadata": source,
        "eval_library": library | {"additional_details": versions},
        "model_info": model,
    }


def is_published(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell's weights are a model as its source has it."""
    return len(cell["chain"]) == 1


def model_info(tables: StudyTables, cell: Mapping[str, Any], row: Row) -> Record:
    """Return what a record says of the model that was evaluated."""
    source = manifest_of(cell["chain"][0])["record"]["source"]
    of_hub = source["kind"] == "hf"
    repository = repository_of(source) if of_hub else ""
    name = " / ".join(str(value) for value in cell_key(row) if value is not None)
    own = re.sub(r"[^\w.+-]+", "-", name)
    of_source = is_published(cell) and "/" in repository
    details = {"deployment_type": "self_deployed", "base_model": told(source)}
    details["model_availability"] = "open_weights" if is_published(cell) and of_hub else "unknown"
    details |= texts(source, ("resolved", "licence", "note")) | texts(row, OF_ROW)
    info = {"name": name, "id": repository if of_source else f"prunegrid/{own}"}
    version = json.loads(row["versions"]).get("transformers")
    if version:
        info["inference_engine"] = {"name": "transformers", "version": version}
    return info | {"additional_details": details}


def result(tables: StudyTables, cell: Mapping[str, Any], score: Row) -> Record:
    """Return one score of a cell, with its interval, its data and how it was made."""
    split, metric = score["split"], score["metric"]
    config: Record = {"metric_id": f"prunegrid.{metric}", "metric_name": metric}
    config["lower_is_better"] = known(score["higher_is_better"]) is False
    if known(score["higher_is_better"]) is None:
        config["additional_details"] = {"direction": "neither way is better"}
    if is_perplexity(metric):
        bounds = {"score_type": "continuous", "min_score": 1.0, "max_score": "Infinity"}
        config |= {"metric_kind": "perplexity", **bounds}
    found = {
        "evaluation_result_id": f"{split}.{metric}",
        "evaluation_name": split,
        "source_data": source_data(cell, score),
        "metric_config": config,
        "score_details": {"score": float(score["value"]), "details": texts(score, OF_SCORE)},
    }
    uncertainty = dict(uncertainties(score))
    if uncertainty:
        found["score_details"]["uncertainty"] = uncertainty
    return found | generation(asked_of(tables, cell, split)["settings"])


def uncertainties(score: Row) -> Iterator[tuple[str, Any]]:
    """Yield what is known of a score's spread over items."""
    if known(score["low"]) is not None:
        bounds = {"lower": float(score["low"]), "upper": float(score["high"])}
        method = "percentile bootstrap over items"
        yield "confidence_interval", {**bounds, "confidence_level": 0.95, "method": method}
        yield "num_bootstrap_samples", RESAMPLES
    if known(score["stderr"]) is not None:
        yield "standard_error", {"value": float(score["stderr"]), "method": str(score["harness"])}
    if known(score["n"]) is not None:
        yield "num_samples", int(score["n"])


def asked_of(tables: StudyTables, cell: Mapping[str, Any], split: str) -> Mapping[str, Any]:
    """Return the manifest that a score was read from; of a mean over tasks, its first task's."""
    means = tables.plan["means"]
    task = means[split]["tasks"][0] if split in means and split not in cell["tasks"] else split
    texts_of = {name: pair["predictions"] for name, pair in cell["texts"].items()}
    return manifest_of((texts_of | cell["perplexities"] | cell["tasks"])[task])


def source_data(cell: Mapping[str, Any], score: Row) -> Record:
    """Return where the items of a score came from: a data set of the hub, or another one."""
    scored = cell["scored"].get(score["split"], {}).get("texts")
    if scored is None:
        return {"dataset_name": score["split"], "source_type": "other"}
    source = manifest_of(scored["data"])["record"].get("source") or {"kind": "mixture", "name": ""}
    details = {"split": scored["split"], "data_key": scored["data"]["key"], "source": told(source)}
    details |= texts(source, ("resolved", "licence"))
    if source["kind"] == "hf":
        repository = repository_of(source)
        hub = {"dataset_name": repository, "source_type": "hf_dataset", "hf_repo": repository}
        return hub | {"additional_details": details}
    name = scored["data"]["label"].removeprefix("data ")
    return {"dataset_name": name, "source_type": "other", "additional_details": details}


def repository_of(source: Mapping[str, Any]) -> str:
    """Return the hub's name of a source from there."""
    return source["name"].removeprefix("hf:").partition("@")[0]


def told(source: Mapping[str, Any]) -> str:
    """Return a source as a config names it, without the folders of this machine."""
    return "local" if source["kind"] == "local" else source["name"] or source["kind"]


def generation(settings: Mapping[str, Any]) -> Record:
    """Return how texts were generated, out of the settings of their step; {} for other steps."""
    if "max_new_tokens" not in settings:
        return {}
    sampled = settings.get("do_sample")
    arguments: Record = {"max_tokens": settings["max_new_tokens"]}
    arguments |= {name: settings[name] for name in ("temperature", "top_p") if sampled}
    rest = {k: canonical_json(v) for k, v in settings.items() if k not in arguments}
    return {"generation_config": {"generation_args": arguments, "additional_details": rest}}
