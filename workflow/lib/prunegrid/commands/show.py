"""A study's table for the terminal: a row a cell, its most telling scores, the verdicts."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import pandas

from prunegrid.common.errors import PrunegridError
from prunegrid.tables.headline import headline, is_perplexity
from prunegrid.tables.markdown import number

# Scores that are shown, the most telling first; at most SHOWN of them.
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
    """Return a study's short table, its verdicts and where its files are, as lines.

    Args:
        study: its name.
        results: the folder of tables.

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
    text = [] if tall is None else [*_aligned(_rows(wide, tall)), "", *_verdicts(study, results)]
    text += [_counts(wide["status"])] if "status" in wide else []
    for suffix, what in FILES.items():
        place = results / f"{study}.{suffix}"
        text += [f"  {place}  ({what})"] if place.is_file() else []
    return text


def telling(tall: pandas.DataFrame) -> list[tuple[str, str]]:
    """Return up to SHOWN pairs of (split, metric) that say most of a study."""
    pairs = headline({}, tall[tall["kind"] == "cell"])
    ranked = [pair for start in TELLING for pair in pairs if pair[1].startswith(start)]
    return list(dict.fromkeys([*ranked, *pairs]))[:SHOWN]


def _counts(status: pandas.Series) -> str:
    """Return how many cells there are, and how many of them failed or are missing."""
    missing = int((status == "missing").sum())
    text = f"{len(status)} cells, {int((status == 'failed').sum())} failed"
    return text + (f", {missing} not reached" if missing else "")


def _rows(wide: pandas.DataFrame, tall: pandas.DataFrame) -> list[list[str]]:
    """Return a header and a row a cell, as texts."""
    pairs = telling(tall)
    several = [name for name in ("model", "dataset", "seed") if wide[name].nunique() > 1]
    names = [_title(*pair) for pair in pairs]
    rows = [[*several, "prune", "finetune", "sparsity", "weights", *names]]
    for _, row in wide.iterrows():
        cells = [str(row[name]) for name in (*several, "prune", "finetune")]
        if row["status"] != "ok":
            rows.append([*cells, row["status"], "", *[""] * len(pairs)])
            continue
        cells += [number(row["sparsity_effective"], ".1%"), str(row["weight_precision"])]
        rows.append([*cells, *(_score(row, tall, *pair) for pair in pairs)])
    return rows


def _title(split: str, metric: str) -> str:
    return f"perplexity {split}" if is_perplexity(metric) else f"{metric} {split}"


def _score(row: pandas.Series, tall: pandas.DataFrame, split: str, metric: str) -> str:
    """Return a cell's score with its 95% interval, in the fewest digits that tell."""
    same = tall[(tall["kind"] == "cell") & (tall["split"] == split) & (tall["metric"] == metric)]
    for key in ("model", "prune", "finetune", "dataset", "seed"):
        same = same[same[key].isna() if pandas.isna(row[key]) else same[key] == row[key]]
    if same.empty:
        return ""
    found = same.iloc[0]
    form = ".1f" if is_perplexity(metric) else ".3f"
    text = number(found["value"], form)
    if pandas.notna(found["low"]):
        text += f" ({number(found['low'], form)} to {number(found['high'], form)})"
    return text


def _verdicts(study: str, results: Path) -> list[str]:
    """Return a line for every contrast that the study declared."""
    path = results / f"{study}.contrasts.parquet"
    frame = pandas.read_parquet(path) if path.is_file() else pandas.DataFrame()
    if frame.empty:
        return []
    width = max(60, shutil.get_terminal_size().columns - 2)
    text = ["Verdicts (95%, corrected for their number), of the first against the second:"]
    for _, row in frame.iterrows():
        effect = ""
        if pandas.notna(row["value"]):
            bounds = ""
            if pandas.notna(row["low"]):
                bounds = f", {row['low']:.3f} to {row['high']:.3f}"
            effect = f" ({row['effect']} {row['value']:.3f}{bounds})"
        sides = " against ".join(_side(row[side]) for side in ("a", "b"))
        line = f"{sides}, {row['split']} {row['metric'] or ''}: {row['verdict']}{effect}"
        text += textwrap.wrap(line, width, initial_indent="- ", subsequent_indent="  ")
    return [*text, ""]


def _side(title: str | None) -> str:
    """Return prune / finetune of a side's title `model / data / prune / finetune`."""
    return " / ".join((title or "?").split(" / ")[2:]) or "?"


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    text = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return [text[0], "-" * len(text[0]), *text[1:]]
