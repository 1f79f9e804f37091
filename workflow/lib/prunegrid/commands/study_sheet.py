"""The columns of a study's table: its names, its telling numbers, and all others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas

from prunegrid.commands.terminal_table import MAIN, NEAR, Field, Sheet, is_null, marks, scores
from prunegrid.common.file_io import read_json
from prunegrid.tables.headline import headline, is_perplexity
from prunegrid.tables.markdown import number
from prunegrid.tables.schema import Plan

# Beginnings of the metrics to show, in order of preference.
TELLING = ("ppl_", "word_perplexity", "rougeLsum", "acc", "mcc", "exact_match", "chrf", "bleu")
FAMILY = "rouge"  # beginning of the metrics of which one is shown
CELL = ["model", "prune", "finetune", "dataset", "seed"]
DISTURBED = "§"  # behind timings of a machine that did other work too
NONE: Plan = {}  # of a table whose study says nothing
# Numbers beside the scores: (column, header, divisor, whether more is better; None for noisy ones).
BESIDE = (
    ("file_bytes", "MB on disk", 1e6, False),
    ("decode_tokens_per_second", "tokens/s", 1, None),
    ("train_seconds", "tuning s", 1, None),
)


def of_study(results: Path, study: str) -> Sheet:
    """Return the columns of `results/<study>.parquet`, and those of its scores, `split metric`.

    Of a census they are the shares of its bins, a row a cell.
    """
    wide = pandas.read_parquet(results / f"{study}.parquet")
    if "bin" in wide:
        return Sheet([*_census(wide)])
    tall_path = results / f"{study}.long.parquet"
    tall = pandas.read_parquet(tall_path) if tall_path.is_file() else None
    manifest = results / f"{study}.manifest.json"
    plan = read_json(manifest).get("plan", {}) if manifest.is_file() else {}
    return of_frames(wide, tall, plan)


def of_frames(wide: pandas.DataFrame, tall: pandas.DataFrame | None, plan: Plan = NONE) -> Sheet:
    """Return the columns of a study's table and of its table of scores, which may be missing.

    Args:
        plan: of the study; scores that its `show` names stand first.
    """
    several = [name for name in ("model", "dataset", "seed") if wide[name].nunique() > 1]
    several += ["weight_precision"] if wide["weight_precision"].nunique() > 1 else []
    names = [n for n in (*several, "prune", "finetune") if n != "weight_precision"]
    fields = [Field(name, values_of(wide[name]), is_name=True) for name in names]
    changed = ~((wide["prune"] == "dense") & (wide["finetune"] == "none"))
    scored = [] if tall is None else _scores(wide, tall, changed, telling(tall, plan))
    fields += [_sparsity(wide), *scored[:MAIN]]
    first = fields[len(names) + bool(scored)]  # it says so of a cell that has no scores
    states = zip(first.texts, wide["status"], strict=True)
    first.texts = [text if status == "ok" else status for text, status in states]
    if "weight_precision" in several:
        values = values_of(wide["weight_precision"])
        fields.append(Field("weight_precision", values, "weights", is_telling=True))
    for name, header, divisor, better in BESIDE:
        if name in wide and wide[name].notna().any():
            values = values_of(wide[name])
            texts = ["" if v is None else short(v / divisor) for v in values]
            if name.endswith("_per_second") and "speed_disturbed" in wide:
                amiss = wide["speed_disturbed"].notna()
                texts = [f"{t} {DISTURBED}" if d else t for t, d in zip(texts, amiss, strict=True)]
            marked = marks([v if c else None for v, c in zip(values, changed, strict=True)], better)
            fields.append(Field(name, values, header, texts, marks=marked, is_telling=True))
    fields += scored[MAIN:]
    known = {one.name for one in fields}
    rest = [name for name in wide if name not in known]
    return Sheet([*fields, *(Field(name, values_of(wide[name])) for name in rest)])


def telling(tall: pandas.DataFrame, plan: Plan) -> list[tuple[str, str]]:
    """Return the (split, metric) pairs of the headline: as `show` names them, or by TELLING.

    By TELLING each split has one of the ROUGE scores: they go up and down together.
    """
    pairs = headline(plan, tall[tall["kind"] == "cell"])
    if plan.get("show"):
        return pairs
    ranked = [pair for start in TELLING for pair in pairs if pair[1].startswith(start)]
    best = {}
    for split, metric in [*ranked, *pairs]:
        family = FAMILY if metric.startswith(FAMILY) else metric
        best.setdefault((split, family), (split, metric))
    return list(best.values())


def values_of(column: pandas.Series) -> list[Any]:
    """Return the values of a column as Python's own, None for nulls."""
    return [None if is_null(value) else value for value in column.astype(object).tolist()]


def _scores(
    wide: pandas.DataFrame,
    tall: pandas.DataFrame,
    changed: pandas.Series,
    first: Sequence[tuple[str, str]],
) -> list[Field]:
    """Return a column for each split and metric, the telling ones first."""
    cells = tall[tall["kind"] == "cell"]
    pairs = dict.fromkeys([*first, *zip(cells["split"], cells["metric"], strict=True)])
    by_pair = dict(list(cells.groupby(["split", "metric"], sort=False)))
    keys = list(map(_key, wide.to_dict("records")))
    fields = []
    for split, metric in pairs:
        rows = {_key(row): row for row in by_pair[split, metric].to_dict("records")}
        found = [rows.get(key, {}) for key in keys]
        values, low, high = (
            [None if is_null(row.get(name)) else float(row[name]) for row in found]
            for name in ("value", "low", "high")
        )
        better = {row["higher_is_better"] for row in rows.values()} if rows else {None}
        better = next(iter(better)) if len(better) == 1 else None
        near = [row.get("near_dense") is True for row in found]
        ranked = [v if c and not n else None for v, c, n in zip(values, changed, near, strict=True)]
        header = f"{'perplexity' if is_perplexity(metric) else metric} {split}"
        fields.append(
            Field(
                f"{split} {metric}",
                values,
                header,
                [
                    text + f" {NEAR}" * at
                    for text, at in zip(scores(values, low, high), near, strict=True)
                ],
                (low, high),
                marks(ranked, None if is_null(better) else bool(better)),
                is_telling=(split, metric) in first,
            )
        )
    return fields


def short(value: float) -> str:
    """Return a number with three digits, or all of a whole one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _key(row: dict) -> tuple:
    return tuple(None if is_null(row[name]) else row[name] for name in CELL)


def _sparsity(wide: pandas.DataFrame) -> Field:
    """Return the share of zeros; of a model that lost units what is gone too."""
    texts = []
    shares = 100 * wide["sparsity_effective"].dropna().astype(float)
    form = ".0%" if ((shares - shares.round()).abs() < 0.05).all() else ".1%"
    for row in wide.to_dict("records"):
        zeros, gone = row["sparsity_effective"], row.get("removed_prunable")
        text = number(zeros, form)
        if not is_null(gone):
            text = f"{number(gone, '.1%')} removed" + (f", {text}" if zeros else "")
        texts.append(text)
    values = values_of(wide["sparsity_effective"])
    return Field("sparsity_effective", values, "sparsity", texts, is_telling=True)


def _census(frame: pandas.DataFrame) -> Sequence[Field]:
    """Yield the columns of a census: a row a cell, the shares of the bins of all weights."""
    groups = list(dict.fromkeys(frame["group"].dropna()))
    whole = frame[(frame["group"] == groups[0]) | frame["group"].isna()] if groups else frame
    cells = whole.drop_duplicates(CELL)
    for name in ("model", "prune", "finetune", "dataset", "seed"):
        if name == "model" or cells[name].nunique() > 1:
            yield Field(name, values_of(cells[name]), is_name=True)
    counts = values_of(cells["parameters"])
    texts = [number(c, ",.0f") for c in counts]
    texts = [t if s == "ok" else s for t, s in zip(texts, cells["status"], strict=True)]
    yield Field("parameters", counts, "weights", texts, is_telling=True)
    keys = list(map(_key, cells.to_dict("records")))
    for label in dict.fromkeys(whole["bin"].dropna()):
        rows = whole[whole["bin"] == label].to_dict("records")
        share = {_key(row): row["share"] for row in rows}
        values = [None if is_null(share.get(key)) else float(share[key]) for key in keys]
        shown = [number(value, ".4g", 100) for value in values]
        yield Field(label, values, f"{label} %", shown, is_telling=True)
    known = {*CELL, "bin", "parameters"}
    for name in (name for name in frame if name not in known):
        yield Field(name, values_of(cells[name]))
