"""The table for people: Markdown, a caption that says what the numbers are and are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas

from prunegrid.tables import speed
from prunegrid.tables.compared import (
    CLIFFS_ARE,
    cliffs_table,
    contrasts_table,
    expected_table,
    published_table,
    tested,
)
from prunegrid.tables.groups import Group
from prunegrid.tables.headline import headline, is_perplexity
from prunegrid.tables.markdown import number, table

LABEL = "label_"  # how the columns of the metric `labels` begin
_SHOWN = ("model", "prune", "finetune", "seed")


def render_markdown(
    plan: Mapping[str, Any],
    wide: pandas.DataFrame,
    tall: pandas.DataFrame,
    *,
    controls: pandas.DataFrame | None = None,
    groups: Sequence[Group] = (),
    expected: Sequence[Mapping[str, Any]] = (),
    contrasts: Sequence[Mapping[str, Any]] = (),
    cliffs: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
    doubts: Sequence[str] = (),
) -> str:
    """Return the study's table as Markdown: cells, seeds, controls, failures, caption."""
    title = plan["title"] or plan["study"]
    same = [name for name in ("model",) if wide[name].nunique() == 1 and len(wide) > 1]
    parts = [f"# {title}"]
    if same:
        parts.append(", ".join(f"{name}: {wide[name].dropna().iloc[0]}" for name in same))
    parts.append(_cells(plan, wide, tall, [name for name in _SHOWN if name not in same]))
    if any(len(group.rows) > 1 for group in groups):
        parts += ["Over seeds (mean ± standard deviation):", _seeds(plan, groups, tall)]
    if contrasts:
        parts += [
            "Declared contrasts (a against b):",
            contrasts_table(contrasts),
            tested(contrasts),
        ]
    if cliffs:
        parts += [
            "Cliffs (the highest sparsity that is non-inferior to dense, as all below it are):",
            cliffs_table(cliffs),
            CLIFFS_ARE,
        ]
    if expected:
        parts += ["Known values:", expected_table(expected)]
    if published := plan.get("published"):
        parts += [
            "Published elsewhere, **unattested** (nothing shows which weights gave these numbers): "
            + published["source"],
            published_table(published["rows"]),
        ]
    shown = tall[tall["kind"] != "cell"]
    if len(shown):
        parts += ["Controls (no model; not cells):", _controls(shown, headline(plan, tall))]
    if controls is not None:
        parts += _flagged(controls)
    if tall["metric"].str.startswith(LABEL).any():
        parts += ["Labels, by rules, as shares of the outputs (docs/metrics.md):", _labels(tall)]
    failed = wide[wide["status"] != "ok"]
    if len(failed):
        lines = [f"- {_name(row)}: {row['reason']}" for _, row in failed.iterrows()]
        count = int((failed["status"] == "failed").sum())
        told = f"{count} of {len(wide)} cells failed, {len(failed) - count} are missing:"
        parts += [told.replace(", 0 are missing", ""), "\n".join(lines)]
    parts += [f"Not in the table: {note}" for note in notes]
    parts += [f"Look again: {doubt}." for doubt in doubts]
    parts.append(_caption(wide, tall))
    return "\n\n".join(parts) + "\n"


def _name(row: Mapping[str, Any]) -> str:
    return " / ".join(str(row[key]) for key in _SHOWN if not pandas.isna(row[key]))


def _cells(
    plan: Mapping[str, Any], wide: pandas.DataFrame, tall: pandas.DataFrame, shown: list[str]
) -> str:
    pairs = headline(plan, tall)
    splits = {split for split, _ in pairs}
    low = _at_chance(tall)
    lines = []
    for _, row in wide.iterrows():
        line = {key: row[key] for key in shown}
        line["sparsity"] = number(row["sparsity_prunable"], ".4f")
        line["effective"] = number(row["sparsity_effective"], ".4f")
        line["removed"] = number(row["removed_prunable"], ".4f")
        line["of all"] = number(row["removed_total"], ".4f")
        line["N:M"] = (
            ""
            if pandas.isna(row["nm_valid"])
            else f"{row['pattern']} {'ok' if row['nm_valid'] else 'BROKEN'}"
        )
        line["weights"] = "" if pandas.isna(row["weight_precision"]) else row["weight_precision"]
        for split, metric in pairs:
            name = metric if len(splits) == 1 else f"{split} {metric}"
            line[name] = number(
                row.get(f"{split}_{metric}"), ".2f" if is_perplexity(metric) else ".3f"
            )
            line[name] += " †" if (*_cell_of(row), split, metric) in low else ""
            line[name] += " ‡" if split in _tuned_on(row) else ""
        line["MB"] = number(row["file_bytes"], ",.0f", 1e-6)
        line["packed MB"] = number(row["bytes_packed"], ",.0f", 1e-6)
        line["gzip MB"] = number(row["bytes_gzip"], ",.0f", 1e-6)
        line["train s"] = number(row["train_seconds"], ",.0f")
        line |= speed.shown(row)
        line["sha256"] = "" if pandas.isna(row["weights_sha256"]) else row["weights_sha256"][:8]
        line["status"] = row["status"]
        lines.append({k: "" if v is None or v is pandas.NA else v for k, v in line.items()})
    frame = pandas.DataFrame(lines)
    empty = [name for name in frame if (frame[name].astype(str) == "").all()]
    if (frame["status"] == "ok").all():
        empty.append("status")
    return table(frame.drop(columns=empty))


def _cell_of(row: Mapping[str, Any]) -> tuple:
    values = [row[key] for key in ("model", "dataset", "prune", "finetune", "seed")]
    return tuple(None if pandas.isna(value) else value for value in values)


def _tuned_on(row: Mapping[str, Any]) -> list[str]:
    """Return the tasks whose own data a cell was tuned on."""
    return [] if pandas.isna(row["tuned_on_tasks"]) else row["tuned_on_tasks"].split("+")


def _at_chance(tall: pandas.DataFrame) -> set[tuple]:
    """Return (cell, split, metric) of the scores that chance could have given."""
    rows = tall[(tall["kind"] == "cell") & tall["at_chance"].fillna(False).astype(bool)]
    return {(*_cell_of(row), row["split"], row["metric"]) for _, row in rows.iterrows()}


def _seeds(plan: Mapping[str, Any], groups: Sequence[Group], tall: pandas.DataFrame) -> str:
    """Return a row a group: how many seeds, and the headline metrics over them."""
    pairs = [pair for pair in headline(plan, tall) if any(pair in g.items for g in groups)]
    lines = []
    for group in groups:
        line: dict[str, Any] = {"model": group.model, "data": group.dataset}
        line |= {"cell": group.name, "seeds": len(group.rows)}
        for split, metric in pairs:
            text = ""
            if (split, metric) in group.items:
                form = ".2f" if is_perplexity(metric) else ".3f"
                spread = group.spread((split, metric))
                text = format(group.mean((split, metric)), form)
                text += "" if spread is None else f" ± {spread:{form}}"
            line[f"{split} {metric}"] = text
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


def _flagged(controls: pandas.DataFrame) -> list[str]:
    """Return the line of metrics that a gaming control wins, each with the widest margin."""
    winners = controls[(controls["role"] == "gaming") & controls["beats"].fillna(False)]
    lines = []
    several = controls["dataset"].nunique() > 1
    for (data, split, metric), rows in winners.groupby(["dataset", "split", "metric"], sort=False):
        row = rows.loc[rows["difference"].abs().idxmax()]
        bounds = f"{row['difference_low']:+.3f} to {row['difference_high']:+.3f}"
        place = f"{data} {split}" if several else split
        lines.append(f"{place} {metric} ({row['name']} {row['difference']:+.3f}, {bounds})")
    if lines:
        told = "Flagged metrics, on which a gaming control beats the best cell (by, 95% paired "
        return [f"{told}interval); alone they say nothing: {'; '.join(lines)}."]
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
    told = []
    for column, what in (("compute_dtype", "tuned"), ("evaluation_dtype", "evaluated")):
        counts = wide[column].dropna().value_counts(sort=False)
        if len(counts) > 1:
            parts = ", ".join(f"{n} in {name}" for name, n in counts.items())
            told.append(
                f"The rows were {what} in unlike precisions ({parts}; column `{column}`): a "
                "difference between them may be rounding's."
            )
    return told


def _caption(wide: pandas.DataFrame, tall: pandas.DataFrame) -> str:
    """Return what the reader must know to read the table right."""
    counts = tall.groupby("split")["n"].max()
    items = ", ".join(f"{split}: n = {n}" for split, n in counts.items())
    cells = tall[tall["kind"] == "cell"]
    widths = ((cells["high"] - cells["low"]) / 2).groupby(cells["metric"]).median()
    shown = [
        f"{metric} ± {width:.3f}"
        for metric, width in widths.items()
        if metric in ("rouge1", "rougeLsum") and not pandas.isna(width)
    ]
    sentences = [
        f"{items}." if items else "",
        "Sparsity and N:M are counted on the tensors that produced the outputs, whose SHA-256 "
        "begins with `sha256`.",
    ]
    if shown:
        sentences.append(
            f"Typical 95% intervals over documents: {', '.join(shown)} (each row's own are in the "
            "long table); differences within them say nothing."
        )
    cut = int(wide["references_cut"].fillna(0).max() or 0) if len(wide) else 0
    if cut:
        sentences.append(
            "References were cut before scoring (`references_cut`): these scores are no others'."
        )
    if _at_chance(tall):
        sentences.append("† not distinguishable from chance: such scores rank nothing.")
    if wide["tuned_on_tasks"].notna().any():
        sentences.append("‡ tuned on other rows of the task's own data set: not zero-shot.")
    sentences += speed.sentences(wide)
    sentences += precision_notes(wide)
    seeds = wide["seed"].dropna().unique()
    if len(seeds) == 1:
        sentences.append("One seed: the spread between seeds is not seen here.")
    return " ".join(s for s in sentences if s)
