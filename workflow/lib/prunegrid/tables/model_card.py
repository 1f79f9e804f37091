"""The model card of an exported cell: README.md with its metadata, and `.eval_results/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas
import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml

from prunegrid.common.nm_pattern import parse_nm
from prunegrid.tables import cell_sources, loading_snippets, markdown
from prunegrid.tables.headline import is_perplexity
from prunegrid.tables.markdown import number
from prunegrid.tables.one_cell import TableCell

PIPELINES = {
    "causal-lm": "text-generation",
    "masked-lm": "fill-mask",
    "encoder": "feature-extraction",
}
# Licences by the hub's names; it refuses a card with any other (but `other`).
LICENCES = (
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "unlicense", "wtfpl"),
    *("gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "odc-by", "cc"),
    *("cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "openrail", "openrail++", "creativeml-openrail-m"),
    *("bigscience-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m", "gemma"),
    *("llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "other"),
)
# Benchmarks that the hub has registered: {data set: (its task, the metric, a harness' task)}.
REGISTERED = {
    "openai/gsm8k": ("gsm8k", "exact_match", "gsm8k"),
    "TIGER-Lab/MMLU-Pro": ("mmlu_pro", "exact_match", "mmlu_pro"),
    "Idavidrein/gpqa": ("diamond", "acc_norm", "gpqa_diamond_zeroshot"),
}


def write(cell: TableCell, form: str, place: str, *, tokenizer: bool) -> str:
    """Return the text of README.md.

    Args:
        form: of the folder (`prunegrid.models.export_forms`).
        place: the repository, or the folder's name: what the code to load it names.
        tokenizer: whether the folder has one.
    """
    parts = [
        f"---\n{metadata(cell, place).to_yaml()}\n---",
        f"# {cell.name}",
        summary(cell),
        "## Load it",
        loading_snippets.text(form, cell_sources.task_of(cell), place, tokenizer=tokenizer),
        "## What was done",
        "\n".join(_steps(cell)),
        "## Scores",
        _scores(cell),
        "## The evaluated weights, as counted",
        markdown.table(_weights(cell.row)),
        "## Check it",
        _checked(cell.row),
        "## Licence",
        licence(cell_sources.model_source(cell)),
    ]
    return "\n\n".join(parts) + "\n"


def metadata(cell: TableCell, place: str) -> ModelCardData:
    """Return the metadata of the card, as a hub reads it; what is not known is left out."""
    source = cell_sources.model_source(cell)
    base = cell_sources.repository(source)
    data = [cell_sources.repository(each["source"]) for each in cell_sources.learned(cell)]
    return ModelCardData(
        base_model=base,
        base_model_relation=_relation(cell.row) if base else None,
        **_licence_keys(source, base),
        library_name="transformers",
        pipeline_tag=pipeline_tag(cell),
        tags=list(_tags(cell.row)),
        datasets=list(dict.fromkeys(filter(None, data))) or None,
        model_name=place.rpartition("/")[2],
        eval_results=list(_results(cell)) or None,
    )


def _relation(row: Mapping[str, Any]) -> str | None:
    """Return the hub's word for what was done to the base; it has none for pruning."""
    if row["method"] != "dense":
        return "finetune"
    return {"none": None, "quantize": "quantized"}.get(row["strategy"], "finetune")


def pipeline_tag(cell: TableCell) -> str:
    """Return the hub's name of what the model does."""
    task = cell_sources.task_of(cell)
    return PIPELINES.get(task) or ("translation" if cell.plan["documents"] else "summarization")


def _licence_keys(source: Mapping[str, Any], base: str | None) -> dict[str, str]:
    """Return the card's keys of a declared licence; a name that is not the hub's is `other`."""
    declared = source["licence"]
    if not declared or source["licence_of"]:
        return {}
    if declared in LICENCES:
        return {"license": declared}
    link = {"license_link": f"https://huggingface.co/{base}"} if base else {}
    return {"license": "other", "license_name": declared, **link}


def _tags(row: Mapping[str, Any]) -> Iterator[str]:
    if row["method"] != "dense":
        yield "pruned"
        yield "structured-pruning" if row["pattern"] == "structured" else "sparse"
        if parse_nm(row["pattern"]):
            yield row["pattern"]
    yield "prunegrid"


def _results(cell: TableCell) -> Iterator[EvalResult]:
    """Yield the row's scores for `model-index`."""
    texts = cell_sources.scored(cell)
    for score in _shown(cell):
        entry = texts.get(score["split"])
        name = entry["label"] if entry else score["split"]
        yield EvalResult(
            task_type=pipeline_tag(cell),
            dataset_type=(entry and cell_sources.repository(entry["source"])) or name,
            dataset_name=name,
            dataset_split=entry["split"] if entry else score["split"],
            metric_type="perplexity" if is_perplexity(score["metric"]) else score["metric"],
            metric_name=f"{score['split']} {score['metric']}",
            metric_value=score["value"],
        )


def benchmark_entries(cell: TableCell) -> str | None:
    """Return the YAML of `.eval_results/`, for scores of whole registered benchmarks; else None.

    Values are percentages, as benchmarks' pages show them.
    """
    texts, entries = cell_sources.scored(cell), []
    for score in _values(cell.scores):
        entry = texts.get(score["split"])
        repo = entry and cell_sources.repository(entry["source"])
        task, metric, ours = REGISTERED.get(repo, (None, None, None))
        if (score["split"], score["metric"]) == (ours, metric) and entry["rows"] is None:
            notes = f"{score['harness']}, {score['shots']} shots"
            commit = entry["source"]["resolved"]
            value = round(100 * score["value"], 3)
            entries.append(EvalResultEntry(repo, task, value, dataset_revision=commit, notes=notes))
    return yaml.safe_dump(eval_result_entries_to_yaml(entries)) if entries else None


def _shown(cell: TableCell) -> list[dict[str, Any]]:
    """Return the scores that the study's page shows, in its order."""
    values = {(score["split"], score["metric"]): score for score in _values(cell.scores)}
    return [values[pair] for pair in cell.shown if pair in values]


def _values(scores: pandas.DataFrame) -> list[dict[str, Any]]:
    """Return the scores that have a value, as dicts with None for nulls."""
    rows = scores[scores["value"].notna()].astype(object)
    return rows.where(rows.notna(), None).to_dict("records")


def summary(cell: TableCell) -> str:
    """Return in two sentences what the model is."""
    row, source = cell.row, cell_sources.model_source(cell)
    base = cell_sources.repository(source) or row["model"]
    text = f"This is `{base}`"
    if row["method"] == "dense":
        text += ", not pruned"
    elif row["pattern"] == "structured":
        text += f" without {number(row['removed_prunable'], '.1%')} of the weights of its blocks, "
        text += f"removed by `{row['method']}` ({row['units']})"
    else:
        zeros = number(row["sparsity_effective"], ".1%")
        text += f", pruned by `{row['method']}` ({row['pattern']}): {zeros} of its prunable "
        text += "weights are zero"
    tuned = "" if row["strategy"] == "none" else f" It was then changed by `{row['strategy']}`"
    if tuned and cell_sources.learned(cell):
        tuned += f" (`{row['finetune']}`, on `{row['dataset']}`)"
    origin = f" Source of `{base}`: " + "; ".join(filter(None, (source["name"], source["note"])))
    return text + "." + (tuned and tuned + ".") + origin + "."


def _steps(cell: TableCell) -> Iterator[str]:
    """Yield a line of Markdown for every step, with the settings that are set."""
    for place, step in enumerate(cell_sources.steps(cell), 1):
        settings = step.get("settings", {})
        plain = {k: v for k, v in settings.items() if isinstance(v, (str, int, float))}
        listed = ", ".join(f"{key} {value}" for key, value in plain.items() if value is not False)
        yield f"{place}. **{step['label'].rpartition(' > ')[2]}**: {listed or 'no settings'}"
    yield from (f"\n{sentence}" for sentence in _learned(cell))


def _learned(cell: TableCell) -> Iterator[str]:
    """Yield a sentence for each text: what the model was calibrated on, tuned on, or both."""
    uses: dict[str, dict[str, None]] = {}
    for each in cell_sources.learned(cell):
        origin = cell_sources.repository(each["source"]) or each["source"]["name"]
        place = f"the split `{each['split']}` of `{each['label']}` ({origin})"
        uses.setdefault(place, {})[each["use"] or "calibrated or tuned"] = None
    for place, ways in uses.items():
        words = " and ".join(ways)
        yield f"{words[0].upper()}{words[1:]} on {place}."


def _scores(cell: TableCell) -> str:
    """Return the table of scores, those of the untouched model beside them."""
    dense = {(s["split"], s["metric"]): s["value"] for s in _values(cell.dense_scores)}
    rows = [
        {
            "evaluation": score["split"],
            "metric": score["metric"],
            "this model": number(score["value"], ".4g"),
            "95% interval": _interval(score),
            "untouched model": number(dense.get((score["split"], score["metric"])), ".4g"),
            "items": score["n"],
            "better": {True: "higher", False: "lower"}.get(score["higher_is_better"], ""),
        }
        for score in _shown(cell)
    ]
    if not rows:
        return "The row has no scores."
    text = "Each interval is a bootstrap over the items that were scored; it does not cover the "
    text += "choice of the data. Perplexities compare only over one tokenizer. `prunegrid.json` "
    text += "has every score of the row.\n\n"
    return text + markdown.table(pandas.DataFrame(rows))


def _interval(score: Mapping[str, Any]) -> str:
    low, high = number(score["low"], ".4g"), number(score["high"], ".4g")
    return markdown.between(low, high) if low else ""


def _weights(row: Mapping[str, Any]) -> pandas.DataFrame:
    """Return what was counted on the evaluated weights."""
    counted = {
        "parameters": f"{row['parameters']:,}",
        "non-zero parameters": f"{row['nonzero_parameters']:,}",
        "zeros among prunable weights": number(row["sparsity_prunable"], ".2%"),
        "zeros of base + adapter": number(row["sparsity_effective"], ".2%"),
        "prunable weights removed": number(row["removed_prunable"], ".2%"),
        f"every group is {row['pattern']}": {True: "yes", False: "no"}.get(row["nm_valid"], ""),
        "weight format": row["weight_precision"],
        "computed in": row["evaluation_dtype"],
        "SHA-256 of the weights": f"`{row['weights_sha256']}`",
    }
    rows = [{"fact": fact, "value": value} for fact, value in counted.items() if value]
    return pandas.DataFrame(rows)


def _checked(row: Mapping[str, Any]) -> str:
    """Return how a reader verifies the folder."""
    return (
        "`prunegrid.json` has the SHA-256 of every file and tensor, the settings and versions of "
        "every step, and the row. With prunegrid installed, and without the study's results,\n\n"
        "```bash\nprunegrid check FOLDER\n```\n\n"
        "hashes all of them again, loads the weights, and counts their zeros. This text may be "
        f"edited; anything else counts as a change. The row is of the study `{row['study']}`."
    )


def licence(source: Mapping[str, Any]) -> str:
    """Return what is known of the base model's licence."""
    if not source["licence"]:
        return (
            "The source of the base model declares no licence that prunegrid could read, so this "
            "card has no `license` key. Find out which terms apply before you share the folder."
        )
    if source["licence_of"]:
        return (
            f"{source['licence_of'].capitalize()} that carries the base model declares "
            f"`{source['licence']}`. That need not be the model's own licence, so this card has no "
            "`license` key."
        )
    return (
        f"The base model declares `{source['licence']}`, and this model is derived from it. "
        "prunegrid repeats the declaration and did not verify it."
    )
