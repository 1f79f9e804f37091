"""The short form of a study's table: a row a cell, two scores, the verdicts."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import pandas
from tabulate import tabulate

from prunegrid.common.errors import PrunegridError
from prunegrid.tables.headline import headline, is_perplexity
from prunegrid.tables.markdown import number

# Beginnings of the metrics to show, in order of preference; at most SHOWN of them.
TELLING = ("ppl_", "word_perplexity", "rougeLsum", "acc", "mcc", "exact_match", "chrf", "bleu")
SHOWN = 2
FILES = {
    "md": "the whole table, for people",
    "png": "its figure",
    "parquet": "every column, for programs",
    "long.parquet": "every score with its interval",
    "examples.md": "what the models wrote",
}


def lines(study: str, results: Path) -> list[str]:
    """Return a study's short table, its verdicts and the paths of its files, as lines.

    Raises:
        PrunegridError: there is no such table.
    """
    path = results / f"{study}.parquet"
    if not path.is_file():
        raise PrunegridError(
            "there is no such table", where=str(path), remedy=f"make it: prunegrid run {study}"
        )
    wide = pandas.read_parquet(path)
    tall_path = results / f"{study}.long.parquet"
    tall = pandas.read_parquet(tall_path) if tall_path.is_file() else None
    text = []
    if tall is not None:
        rows = _rows(wide, tall)
        table = tabulate(rows, headers="firstrow", disable_numparse=True)
        text = [line.rstrip() for line in table.splitlines()]
        text += ["", *_verdicts(study, results)]
    text += [_counts(wide["status"])] if "status" in wide else []
    for suffix, what in FILES.items():
        place = results / f"{study}.{suffix}"
        text += [f"  {place}  ({what})"] if place.is_file() else []
    return text


def telling(tall: pandas.DataFrame) -> list[tuple[str, str]]:
    """Return up to SHOWN pairs (split, metric) of the headline, in the order of TELLING."""
    pairs = headline({}, tall[tall["kind"] == "cell"])
    ranked = [pair for start in TELLING for pair in pairs if pair[1].startswith(start)]
    return list(dict.fromkeys([*ranked, *pairs]))[:SHOWN]


def _counts(status: pandas.Series) -> str:
    """Return in words how many cells there are, have failed, and are missing."""
    missing = int((status == "missing").sum())
    text = f"{len(status)} cells, {int((status == 'failed').sum())} failed"
    return text + (f", {missing} not reached" if missing else "")


def _rows(wide: pandas.DataFrame, tall: pandas.DataFrame) -> list[list[str]]:
    """Return a header and a row a cell, as texts."""
    pairs = telling(tall)
    several = [name for name in ("model", "dataset", "seed") if wide[name].nunique() > 1]
    names = [f"{'perplexity' if is_perplexity(m) else m} {split}" for split, m in pairs]
    rows = [[*several, "prune", "finetune", "sparsity", "weights", *names]]
    for _, row in wide.iterrows():
        keys = (row[name] for name in (*several, "prune", "finetune"))
        cells = ["" if pandas.isna(key) else str(key) for key in keys]
        if row["status"] != "ok":
            rows.append([*cells, row["status"], "", *[""] * len(pairs)])
            continue
        cells += [_sparsity(row), str(row["weight_precision"])]
        rows.append([*cells, *(_score(row, tall, *pair) for pair in pairs)])
    return rows


def _sparsity(row: pandas.Series) -> str:
    """Return the share of zeros; of a model that lost whole units, the share that is gone too."""
    zeros, gone = row["sparsity_effective"], row.get("removed_prunable")
    if pandas.isna(gone):
        return number(zeros, ".1%")
    text = f"{number(gone, '.1%')} removed"
    return f"{text}, {number(zeros, '.1%')}" if zeros else text


def _score(row: pandas.Series, tall: pandas.DataFrame, split: str, metric: str) -> str:
    """Return a cell's score with its 95% interval."""
    same = tall[(tall["kind"] == "cell") & (tall["split"] == split) & (tall["metric"] == metric)]
    for key in ("model", "prune", "finetune", "dataset", "seed"):
        same = same[same[key].isna() if pandas.isna(row[key]) else same[key] == row[key]]
    if same.empty:
        return ""
    form = ".1f" if is_perplexity(metric) else ".3f"
    value, low, high = (number(same.iloc[0][name], form) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})" if low else value


def _verdicts(study: str, results: Path) -> list[str]:
    """Return a line for every contrast that the study declared."""
    path = results / f"{study}.contrasts.parquet"
    frame = pandas.read_parquet(path) if path.is_file() else pandas.DataFrame()
    if frame.empty:
        return []
    width = max(60, shutil.get_terminal_size().columns - 2)
    text = ["Verdicts (95%, corrected for their number), of the first against the second:"]
    for _, row in frame.iterrows():
        value, low, high = (number(row[name], ".3f") for name in ("value", "low", "high"))
        bounds = f", {low} to {high}" if low else ""
        effect = f" ({row['effect']} {value}{bounds})" if value else ""
        sides = " against ".join(_side(row[side]) for side in ("a", "b"))
        line = f"{sides}, {row['split']} {row['metric'] or ''}: {row['verdict']}{effect}"
        text += textwrap.wrap(line, width, initial_indent="- ", subsequent_indent="  ")
    return [*text, ""]


def _side(title: str | None) -> str:
    """Return prune / finetune of a side's title `model / data / prune / finetune`."""
    return " / ".join((title or "?").split(" / ")[2:]) or "?"
