"""The table for people: Markdown, a caption that says what the numbers are and are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas
from tabulate import tabulate

from prunegrid.tables.groups import Group

_SHOWN = ("model", "prune", "finetune", "seed")
# Metrics of the narrow table, in order; a name that ends in _ stands for all that begin so.
_HEADLINE = (
    "rouge1",
    "rouge2",
    "rougeLsum",
    "bertscore",
    "bertscore_",
    "rep4",
    "length_ratio",
    "ppl_",
    "word_perplexity",
    "word_perplexity_",
)


def render_markdown(
    plan: Mapping[str, Any],
    wide: pandas.DataFrame,
    tall: pandas.DataFrame,
    *,
    groups: Sequence[Group] = (),
    expected: Sequence[Mapping[str, Any]] = (),
    notes: Sequence[str] = (),
) -> str:
    """Return the study's table as Markdown: cells, seeds, baselines, failures, caption."""
    title = plan["title"] or plan["study"]
    same = [name for name in ("model",) if wide[name].nunique() == 1 and len(wide) > 1]
    parts = [f"# {title}"]
    if same:
        parts.append(", ".join(f"{name}: {wide[name].dropna().iloc[0]}" for name in same))
    parts.append(_cells(wide, tall, [name for name in _SHOWN if name not in same]))
    if any(len(group.rows) > 1 for group in groups):
        parts += ["Over seeds (mean ± standard deviation):", _seeds(groups, tall)]
    if expected:
        parts += ["Known values:", _expected(expected)]
    baselines = tall[tall["kind"] == "baseline"]
    if len(baselines):
        parts += ["Baselines (no model; not cells):", _baselines(baselines)]
    failed = wide[wide["status"] != "ok"]
    if len(failed):
        lines = [f"- {_name(row)}: {row['reason']}" for _, row in failed.iterrows()]
        parts += [f"{len(failed)} of {len(wide)} cells failed:", "\n".join(lines)]
    parts += [f"Not in the table: {note}" for note in notes]
    parts.append(_caption(wide, tall))
    return "\n\n".join(parts) + "\n"


def _name(row: Mapping[str, Any]) -> str:
    return " / ".join(str(row[key]) for key in _SHOWN if not pandas.isna(row[key]))


def is_perplexity(metric: str) -> bool:
    """Return whether a metric's name is that of a perplexity."""
    return metric.startswith(("ppl_", "word_perplexity"))


def headline(tall: pandas.DataFrame) -> list[tuple[str, str]]:
    """Return the (split, metric) pairs that a narrow table shows, split by split."""
    pairs = list(dict.fromkeys(zip(tall["split"], tall["metric"], strict=True)))
    splits = list(dict.fromkeys(split for split, _ in pairs))
    named = [
        (split, metric)
        for split in splits
        for wanted in _HEADLINE
        for _, metric in (pair for pair in pairs if pair[0] == split)
        if metric == wanted or (wanted.endswith("_") and metric.startswith(wanted))
    ]
    return named or pairs[:6]


def _cells(wide: pandas.DataFrame, tall: pandas.DataFrame, shown: list[str]) -> str:
    pairs = headline(tall)
    splits = {split for split, _ in pairs}
    lines = []
    for _, row in wide.iterrows():
        line = {key: row[key] for key in shown}
        line["sparsity"] = _number(row["sparsity_prunable"], ".4f")
        line["effective"] = _number(row["sparsity_effective"], ".4f")
        line["N:M"] = (
            ""
            if pandas.isna(row["nm_valid"])
            else f"{row['pattern']} {'ok' if row['nm_valid'] else 'BROKEN'}"
        )
        line["weights"] = "" if pandas.isna(row["weight_precision"]) else row["weight_precision"]
        for split, metric in pairs:
            name = metric if len(splits) == 1 else f"{split} {metric}"
            line[name] = _number(
                row.get(f"{split}_{metric}"), ".2f" if is_perplexity(metric) else ".3f"
            )
        line["MB"] = _number(row["file_bytes"], ",.0f", 1e-6)
        line["packed MB"] = _number(row["bytes_packed"], ",.0f", 1e-6)
        line["train s"] = _number(row["train_seconds"], ",.0f")
        line["tok/s"] = _number(row["decode_tokens_per_second"], ".1f")
        line["vs dense"] = _ratio(row, "decode_speed_vs_dense")
        line["sha256"] = "" if pandas.isna(row["weights_sha256"]) else row["weights_sha256"][:8]
        line["status"] = row["status"]
        lines.append({k: "" if v is None or v is pandas.NA else v for k, v in line.items()})
    frame = pandas.DataFrame(lines)
    empty = [name for name in frame if (frame[name].astype(str) == "").all()]
    if (frame["status"] == "ok").all():
        empty.append("status")
    return _table(frame.drop(columns=empty))


def _seeds(groups: Sequence[Group], tall: pandas.DataFrame) -> str:
    """Return a row a group: how many seeds, and the headline metrics over them."""
    pairs = [pair for pair in headline(tall) if any(pair in group.items for group in groups)]
    lines = []
    for group in groups:
        line: dict[str, Any] = {"model": group.model, "cell": group.name, "seeds": len(group.rows)}
        for split, metric in pairs:
            text = ""
            if (split, metric) in group.items:
                form = ".2f" if is_perplexity(metric) else ".3f"
                spread = group.spread((split, metric))
                text = format(group.mean((split, metric)), form)
                text += "" if spread is None else f" ± {spread:{form}}"
            line[f"{split} {metric}"] = text
        lines.append(line)
    return _table(pandas.DataFrame(lines))


def _expected(entries: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        {
            "cells": entry["cells"],
            "column": entry["column"],
            "expected": f"{entry['expected']:g}",
            "found": _number(entry["found"], ".2f"),
            "source": entry["source"],
            "verdict": entry["fault"] or "as expected",
        }
        for entry in entries
    ]
    return _table(pandas.DataFrame(lines))


def _baselines(baselines: pandas.DataFrame) -> str:
    lines: dict[tuple, dict] = {}
    for _, row in baselines.iterrows():
        line = lines.setdefault(
            (row["name"], row["dataset"], row["split"]),
            {"baseline": row["name"], "data": row["dataset"], "split": row["split"], "n": row["n"]},
        )
        line[row["metric"]] = _number(row["value"], ".3f")
    return _table(pandas.DataFrame(list(lines.values())))


def _table(frame: pandas.DataFrame) -> str:
    return tabulate(
        frame, headers="keys", tablefmt="github", showindex=False, disable_numparse=True
    )


def _number(value: Any, form: str, scale: float = 1.0) -> str:
    return "" if value is None or pandas.isna(value) else format(value * scale, form)


def _ratio(row: Mapping[str, Any], name: str) -> str:
    """Return a ratio with its interval, where it has one."""
    low, high = (_number(row[f"{name}_{end}"], ".2f") for end in ("low", "high"))
    return _number(row[name], ".2f") + (f" ({low} to {high})" if low else "")


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
    if wide["decode_speed_vs_dense"].notna().any():
        sentences.append(
            "`vs dense` is the decoding speed over that of the untouched model (above 1: faster); "
            "its interval is over repetitions in one process, and blind to what differs from one "
            "process to the next."
        )
    seeds = wide["seed"].dropna().unique()
    if len(seeds) == 1:
        sentences.append("One seed: the spread between seeds is not seen here.")
    return " ".join(s for s in sentences if s)
