"""A study's page in Markdown, with a caption that says what the numbers are and are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas

from prunegrid.tables import compared, speed
from prunegrid.tables.groups import Group
from prunegrid.tables.headline import headline, is_perplexity
from prunegrid.tables.intervals import scores_at_chance, scores_where
from prunegrid.tables.learned import MARKED
from prunegrid.tables.markdown import filled, interval, number, table
from prunegrid.tables.near_dense import WORDS
from prunegrid.tables.schema import Plan, Row, cell_key, cell_title

LABEL = "label_"  # how the columns of the metric `labels` begin
_SHOWN = ("model", "prune", "finetune", "seed")
# Marks behind scores: the column of the long table, and the least value in it.
_MARKS = {"†": ("at_chance", 1), "§": ("learned_share", MARKED), "¶": ("contexts_cut", 1)}
_MARKS |= {"≈": ("near_dense", 1)}


def render_markdown(
    plan: Plan,
    wide: pandas.DataFrame,
    tall: pandas.DataFrame,
    *,
    controls: pandas.DataFrame | None = None,
    groups: Sequence[Group] = (),
    expected: Sequence[Row] = (),
    contrasts: Sequence[Row] = (),
    cliffs: Sequence[Row] = (),
    notes: Sequence[str] = (),
    doubts: Sequence[str] = (),
) -> str:
    """Return the study's page: cells, seeds, what it declares, controls, failures, caption.

    Args:
        notes: why controls are missing.
        doubts: what a reader should look at again.
    """
    parts = [f"# {plan['title'] or plan['study']}"]
    if drifted := compared.drift(expected):
        parts.append(f"**{drifted}**")
    shown = _SHOWN
    if wide["model"].nunique() == 1 and len(wide) > 1:
        parts.append(f"model: {wide['model'].dropna().iloc[0]}")
        shown = _SHOWN[1:]
    parts.append(_cells(plan, wide, tall, shown))
    if any(len(group.rows) > 1 for group in groups):
        parts += ["Over seeds (mean ± standard deviation):", _seeds(plan, groups, tall)]
    parts += _declared(plan, contrasts, cliffs, expected)
    others = tall[tall["kind"] != "cell"]
    if len(others):
        parts += ["Controls (no model; not cells):", _controls(others, headline(plan, tall))]
    if controls is not None:
        parts += flagged_sentences(controls)
    if tall["metric"].str.startswith(LABEL).any():
        about = "Labels, by rules, as shares of the outputs (docs/explanations/metrics.md):"
        parts += [about, _labels(tall)]
    parts += _failures(wide)
    parts += [f"Not in the table: {note}" for note in notes]
    parts += [f"Look again: {doubt}." for doubt in doubts]
    parts.append(_caption(wide, tall))
    return "\n\n".join(parts) + "\n"


def _declared(
    plan: Plan, contrasts: Sequence[Row], cliffs: Sequence[Row], expected: Sequence[Row]
) -> list[str]:
    """Return the parts on what the study declares: contrasts, cliffs, known values."""
    parts = []
    if contrasts:
        parts += ["Declared contrasts (a against b):", compared.contrasts_table(contrasts)]
        parts.append(compared.tested(contrasts))
    if cliffs:
        title = "Cliffs (the highest sparsity that is non-inferior to dense, as all below it are):"
        parts += [title, compared.cliffs_table(cliffs), compared.CLIFFS_ARE]
    if expected:
        parts += ["Known values:", compared.expected_table(expected)]
    if published := plan.get("published"):
        parts += [
            "Published elsewhere, **unattested** (nothing shows which weights gave these numbers): "
            + published["source"],
            compared.published_table(published["rows"]),
        ]
    return parts


def _failures(wide: pandas.DataFrame) -> list[str]:
    """Return the parts on cells that failed or are missing."""
    lost = wide[wide["status"] != "ok"]
    if lost.empty:
        return []
    lines = [f"- {cell_title(row, _SHOWN)}: {row['reason']}" for _, row in lost.iterrows()]
    failed = int((lost["status"] == "failed").sum())
    missing = f", {len(lost) - failed} are missing" if failed < len(lost) else ""
    return [f"{failed} of {len(wide)} cells failed{missing}:", "\n".join(lines)]


def _cells(plan: Plan, wide: pandas.DataFrame, tall: pandas.DataFrame, shown: Sequence[str]) -> str:
    """Return a row for every cell; columns that none fills are left out."""
    pairs = headline(plan, tall)
    several = len({split for split, _ in pairs}) > 1
    marks = {mark: scores_where(tall, *what) for mark, what in _MARKS.items()}
    lines = []
    for _, row in wide.iterrows():
        line = {key: row[key] for key in shown}
        line["sparsity"] = number(row["sparsity_prunable"], ".4f")
        line["effective"] = number(row["sparsity_effective"], ".4f")
        line["removed"] = number(row["removed_prunable"], ".4f")
        line["of all"] = number(row["removed_total"], ".4f")
        # Only what is not all of the blocks' matrix weights needs a column.
        line["prunable"] = number(row["prunable_share"], ".4f").replace("1.0000", "")
        valid = "" if pandas.isna(row["nm_valid"]) else "ok" if row["nm_valid"] else "BROKEN"
        line["N:M"] = valid and f"{row['pattern']} {valid}"
        line["weights"] = row["weight_precision"]
        tasks = "" if pandas.isna(row["tuned_on_tasks"]) else row["tuned_on_tasks"]
        for split, metric in pairs:
            form = ".2f" if is_perplexity(metric) else ".3f"
            text = number(row.get(f"{split}_{metric}"), form)
            own = "".join(m for m, at in marks.items() if (*cell_key(row), split, metric) in at)
            own += "‡" if split in tasks.split("+") else ""
            text += f" {own}" if own else ""
            line[f"{split} {metric}" if several else metric] = text
        line["MB"] = number(row["file_bytes"], ",.0f", 1e-6)
        line["packed MB"] = number(row["bytes_packed"], ",.0f", 1e-6)
        line["gzip MB"] = number(row["bytes_gzip"], ",.0f", 1e-6)
        line["train s"] = number(row["train_seconds"], ",.0f")
        line |= speed.shown(row)
        line["sha256"] = "" if pandas.isna(row["weights_sha256"]) else row["weights_sha256"][:8]
        line["status"] = row["status"]
        lines.append({name: "" if pandas.isna(v) else v for name, v in line.items()})
    frame = pandas.DataFrame(lines)
    if (frame["status"] == "ok").all():
        frame = frame.drop(columns="status")
    return table(filled(frame))


def _seeds(plan: Plan, groups: Sequence[Group], tall: pandas.DataFrame) -> str:
    """Return a row a group: how many seeds, and the headline metrics over them."""
    pairs = [pair for pair in headline(plan, tall) if any(pair in g.items for g in groups)]
    lines = []
    for group in groups:
        line: dict[str, Any] = {"model": group.model, "data": group.dataset}
        line |= {"cell": group.name, "seeds": len(group.rows)}
        for pair in pairs:
            form = ".2f" if is_perplexity(pair[1]) else ".3f"
            text = number(group.mean(pair), form) if pair in group.items else ""
            spread = number(group.spread(pair), form) if text else ""
            line[" ".join(pair)] = f"{text} ± {spread}" if spread else text
        lines.append(line)
    return table(pandas.DataFrame(lines))


def _controls(controls: pandas.DataFrame, pairs: Sequence[tuple[str, str]]) -> str:
    """Return a row for every control and split: its role, and the headline metrics."""
    lines: dict[tuple, dict] = {}
    for _, row in controls.iterrows():
        about = {"role": row["kind"], "control": row["name"], "data": row["dataset"]}
        about |= {"split": row["split"], "n": row["n"]}
        line = lines.setdefault((row["name"], row["dataset"], row["split"]), about)
        line["n"] = max(line["n"], row["n"])  # not all documents have every score
        if (row["split"], row["metric"]) in pairs:
            line[row["metric"]] = number(row["value"], ".3f")
    frame = pandas.DataFrame(list(lines.values()))
    return table(frame.astype(object).where(frame.notna(), ""))


def flagged_sentences(controls: pandas.DataFrame) -> list[str]:
    """Return the line of metrics that a gaming control wins, each with the widest margin."""
    winners = controls[(controls["role"] == "gaming") & controls["beats"].fillna(False)]
    lines = []
    several = controls["dataset"].nunique() > 1
    for (data, split, metric), rows in winners.groupby(["dataset", "split", "metric"], sort=False):
        row = rows.loc[rows["difference"].abs().idxmax()]
        ends = (number(row[f"difference_{end}"], ".3f") for end in ("low", "high"))
        by = interval(number(row["difference"], "+.3f"), *ends)
        place = f"{data} {split}" if several else split
        lines.append(f"{place} {metric}: {row['name']} by {by}")
    if lines:
        text = "Flagged metrics, on which a gaming control beats the best cell, with the paired "
        return [f"{text}95% interval. Alone they say nothing. {'; '.join(lines)}."]
    if controls["flagged"].notna().any():
        return ["No metric is flagged: no gaming control beats the best cell on any."]
    return []


def _labels(tall: pandas.DataFrame) -> str:
    """Return a row for every cell, control and split: the share of each label."""
    rows = tall[tall["metric"].str.startswith(LABEL)]
    lines: dict[tuple, dict] = {}
    for _, row in rows.iterrows():
        seed = "" if pandas.isna(row["seed"]) else row["seed"]
        about = {"outputs of": row["name"], "data": row["dataset"]}
        about |= {"seed": seed, "split": row["split"]}
        key = (row["kind"], row["name"], row["dataset"], seed, row["split"])
        line = lines.setdefault(key, about)
        line[row["metric"].removeprefix(LABEL)] = number(row["value"], ".2f")
    return table(pandas.DataFrame(list(lines.values())))


def precision_notes(wide: pandas.DataFrame) -> list[str]:
    """Return a sentence for each kind of work that rows have computed in unlike precisions."""
    notes = []
    for column, what in (("compute_dtype", "tuned"), ("evaluation_dtype", "evaluated")):
        counts = wide[column].dropna().value_counts(sort=False)
        if len(counts) > 1:
            parts = ", ".join(f"{n} in {name}" for name, n in counts.items())
            notes.append(
                f"The rows were {what} in unlike precisions ({parts}; column `{column}`): a "
                "difference between them may be rounding's."
            )
    return notes


def _caption(wide: pandas.DataFrame, tall: pandas.DataFrame) -> str:
    """Return what the reader must know to read the table right."""
    items = ", ".join(f"{split}: n = {n}" for split, n in tall.groupby("split")["n"].max().items())
    sentences = [
        f"{items}." if items else "",
        "Sparsity and N:M are counted on the tensors that produced the outputs, whose SHA-256 "
        "begins with `sha256`.",
    ]
    cells = tall[tall["kind"] == "cell"]
    widths = ((cells["high"] - cells["low"]) / 2).groupby(cells["metric"]).median().dropna()
    typical = [
        f"{metric} {2 * width:.3f}"
        for metric, width in widths.items()
        if metric in ("rouge1", "rougeLsum")
    ]
    if typical:
        sentences.append(
            f"Typical width of a score's 95% interval over documents: {', '.join(typical)} (each "
            "row's own ends are in the long table); differences within it say nothing."
        )
    if wide["references_cut"].fillna(0).gt(0).any():
        sentences.append(
            "References were cut before scoring (`references_cut`): these scores are not "
            "comparable with published ones."
        )
    if scores_at_chance(tall):
        sentences.append("† not distinguishable from chance: such scores rank nothing.")
    if scores_where(tall, *_MARKS["§"]):
        sentences.append(
            f"§ the cell was tuned or calibrated on {MARKED:.0%} or more of the scored texts "
            "(`learned_share`): such scores say what was learned by heart."
        )
    if scores_where(tall, *_MARKS["¶"]):
        sentences.append(
            "¶ prompts were cut to fit the model's positions (`contexts_cut`): the model did not "
            "see all that was asked."
        )
    if scores_where(tall, *_MARKS["≈"]):
        sentences.append(f"≈ {WORDS}.")
    if wide["tuned_on_tasks"].notna().any():
        sentences.append("‡ tuned on other rows of the task's own data set: not zero-shot.")
    sentences += speed.sentences(wide)
    sentences += precision_notes(wide)
    if wide["seed"].nunique() == 1:
        sentences.append("One seed: the spread between seeds is not seen here.")
    return " ".join(filter(None, sentences))
