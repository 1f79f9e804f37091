"""Single examples: the scores and the label of each, and a page of the same documents side by side.

The page is for reading: no number of the table comes from it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas

from prunegrid.artifacts.parts import folder_of
from prunegrid.data.prompts import cut_words
from prunegrid.evaluation import predictions_file
from prunegrid.tables.headline import headline_of
from prunegrid.tables.render import LABEL
from prunegrid.tables.schema import Plan, Row, cell_title

DOCUMENTS = 4  # of each data set and split
DOCUMENT_WORDS = 120
OUTPUT_WORDS = 160


@dataclass
class Scored:
    """The scores of one cell or control on one split."""

    kind: str  # cell, or a control's role
    name: str  # model / prune / finetune, or the control's name
    dataset: str  # of the documents
    seed: int | None  # of the cell
    split: str  # of the documents, or the name of a translation of them
    scores: pandas.DataFrame  # one row an example: id and a column a score
    predictions: Path  # folder with the texts
    documents: Path  # file of the documents


@dataclass(frozen=True)
class Example:
    """One document, and what every cell (of several seeds the first) and control made of it."""

    dataset: str
    split: str
    id: str
    document: str | None  # None where the artifact of the documents is gone
    reference: str
    outputs: Sequence[tuple[Scored, str, pandas.Series]]  # (whose, text, its label and scores)


def collect(plan: Plan, rows: Sequence[Row]) -> list[Scored]:
    """Return the scores on each split: of the cells that are not failed, then of the controls.

    Args:
        plan: of the study, with the controls that are whole.
    """
    scored = []
    for cell, row in zip(plan["cells"], rows, strict=True):
        name = cell_title(row, ("model", "prune", "finetune"))
        for split, pair in cell["texts"].items() if row["status"] == "ok" else ():
            about = ("cell", name, row["dataset"], row["seed"], split)
            own = cell.get("documents", {}).get(split, {"data": cell["data"], "split": split})
            scored.append(_scored(about, pair, own))
    for control in plan["baselines"]:
        about = (control["role"], control["baseline"], control["dataset"], None, control["split"])
        scored.append(_scored(about, control, control))
    return scored


def _scored(about: tuple, pair: Mapping[str, Any], documents: Mapping[str, Any]) -> Scored:
    scores = pandas.read_parquet(folder_of(pair["scores"]) / "scores.parquet")
    file = Path(documents["data"]["path"], f"{documents['split']}.parquet")
    return Scored(*about, scores, folder_of(pair["predictions"]), file)


def labels(scores: pandas.DataFrame) -> pandas.Series:
    """Return the label of each example by its `label_…` columns; None where there are none."""
    columns = [column for column in scores if column.startswith(LABEL)]
    if not columns:
        return pandas.Series([None] * len(scores), index=scores.index, dtype=object)
    return scores[columns].idxmax(axis=1).str.removeprefix(LABEL)


def example_rows(plan: Plan, scored: Sequence[Scored]) -> list[dict]:
    """Return a row for every example of every cell and control: its label and its scores."""
    rows = []
    for entry in scored:
        about = {"study": plan["study"], "kind": entry.kind, "name": entry.name}
        about |= {"dataset": entry.dataset, "seed": entry.seed, "split": entry.split}
        numbers = entry.scores.dropna(axis=1, how="all")
        numbers = numbers[[name for name in numbers if not name.startswith(LABEL)]]
        labelled = numbers.assign(label=labels(entry.scores))
        rows += [about | row for row in labelled.to_dict("records")]
    return rows


def render(plan: Plan, scored: Sequence[Scored]) -> str:
    """Return the page as Markdown."""
    parts = [f"# {plan['title'] or plan['study']}: examples"]
    parts.append(
        f"At most {DOCUMENTS} documents of each split, drawn by the seed, and what every cell (of "
        "several seeds the first) and every control made of them. Labels come from rules (see "
        "docs/explanations/metrics.md): `none` says that no rule found a fault."
    )
    for example in drawn(plan, scored):
        parts.append(f"## {example.dataset}, {example.split}: {_inline(example.id)}")
        parts.append(
            "**Document**" + (" (its artifact is gone)" if example.document is None else "")
        )
        parts.append(quoted(example.document or "", DOCUMENT_WORDS))
        parts += ["**Reference**", quoted(example.reference, OUTPUT_WORDS)]
        for entry, text, scores in example.outputs:
            parts.append(f"**{entry.name}** ({entry.kind}): {', '.join(facts_of(scores))}")
            parts.append(quoted(text, OUTPUT_WORDS))
    return "\n\n".join(parts) + "\n"


def drawn(plan: Plan, scored: Sequence[Scored]) -> Iterator[Example]:
    """Yield the examples that are shown: a few documents of each data set and split."""
    splits: dict[tuple, dict[tuple, Scored]] = {}
    for entry in scored:
        first_seeds = splits.setdefault((entry.dataset, entry.split), {})
        first_seeds.setdefault((entry.kind, entry.name), entry)
    for (dataset, split), first_seeds in splits.items():
        entries = list(first_seeds.values())
        ids = draw_documents(plan, dataset, split, entries)
        documents = _documents(entries[0].documents, ids)
        texts = [predictions_file.read(entry.predictions, ids).set_index("id") for entry in entries]
        scores = [e.scores.assign(label=labels(e.scores)).set_index("id") for e in entries]
        for identifier in ids:
            outputs = [
                (entry, text.loc[identifier], score.loc[identifier])
                for entry, text, score in zip(entries, texts, scores, strict=True)
                if identifier in text.index
            ]
            reference = outputs[0][1]["reference"]
            written = [(entry, text["prediction"], score) for entry, text, score in outputs]
            document = documents.get(identifier)
            yield Example(dataset, split, identifier, document, reference, written)


def draw_documents(plan: Plan, dataset: str, split: str, scored: Sequence[Scored]) -> list[str]:
    """Return the ids of the documents that are shown, in their order; the same for equal ids."""
    ids = list(dict.fromkeys(i for entry in scored for i in entry.scores["id"]))
    draw = random.Random(f"{plan['bootstrap_seed']} examples {dataset} {split}")
    chosen = set(draw.sample(sorted(ids), min(DOCUMENTS, len(ids))))
    return [identifier for identifier in ids if identifier in chosen]


def _documents(file: Path, ids: Sequence[str]) -> dict[str, str]:
    """Return {id: document}; {} where the data artifact is gone."""
    if not file.exists():
        return {}
    chosen = pandas.read_parquet(file, columns=["id", "document"], filters=[("id", "in", ids)])
    return dict(zip(chosen["id"], chosen["document"], strict=True))


def facts_of(scores: pandas.Series) -> list[str]:
    """Return the label of an example and its headline scores, each as a text."""
    facts = [] if scores["label"] is None else [f"label {scores['label']}"]
    for metric in headline_of(list(scores.index)):
        if not pandas.isna(scores[metric]):
            facts.append(f"{metric} {scores[metric]:.3f}")
    return facts


def shortened(text: str, limit: int) -> str:
    """Return a text, cut after `limit` words; what is cut is said."""
    more = len(text.split()) - limit
    text = f"{cut_words(text, limit)} [… {more} more words]" if more > 0 else text
    return text.strip() or "(nothing)"


def quoted(text: str, limit: int) -> str:
    """Return a text (see `shortened`) in a fence that it cannot end."""
    text = shortened(text, limit)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", text))])
    return f"{fence}text\n{text}\n{fence}"


def _inline(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")
