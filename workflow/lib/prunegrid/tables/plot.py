"""The figure of a study: quality against measured sparsity, one point a cell, intervals drawn.

A study with an iterated grid has lines instead (`prunegrid.tables.curves`), one that seeks cliffs
shows them (`prunegrid.tables.cliff_figures`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402 - the backend must be chosen first

from prunegrid.tables import cliff_figures, curves  # noqa: E402
from prunegrid.tables.colours import MARKERS, PALETTE  # noqa: E402

PREFERRED = ("rougeLsum", "rouge1")
IN_A_ROW = 4  # panels


def save_plots(
    plan: Mapping[str, Any],
    wide: pandas.DataFrame,
    tall: pandas.DataFrame,
    path: Path,
    form: str,
    cliffs: pandas.DataFrame | None = None,
) -> None:
    """Draw a study's figure into a file: "png" or "svg"."""
    title = plan["title"] or plan["study"]
    if cliffs is not None and len(cliffs):
        figure = cliff_figures.draw_cliffs(cliffs, tall, title)
    else:
        draw = curves.draw_curves if curves.has_arms(wide) else _draw_quality
        figure = draw(wide, tall, title)
    save(figure, path, form, plan["study"])


def save(figure: Any, path: Path, form: str, salt: str) -> None:
    """Write a figure into a file, "png" or "svg", and close it."""
    # Without dates, versions and random ids, equal tables give equal files.
    facts = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[form]
    with pyplot.rc_context({"svg.hashsalt": salt}):
        figure.savefig(path, format=form, dpi=130, metadata=facts)
    pyplot.close(figure)


def _draw_quality(wide: pandas.DataFrame, tall: pandas.DataFrame, title: str) -> Any:
    """Return a figure of one panel a split: a metric over the sparsity, coloured by fine-tuning.

    The metric is rougeLsum, or what the split has instead. Baselines are dashed lines.
    """
    panels = _panels(tall)
    columns = min(max(1, len(panels)), IN_A_ROW)
    lines = -(-max(1, len(panels)) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(6.4 * columns, 4.2 * lines), squeeze=False
    )
    for axis, (split, metric) in zip(axes.flat, panels, strict=False):
        _panel(axis, wide, tall, split, metric)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def _panels(tall: pandas.DataFrame) -> list[tuple[str, str]]:
    found = {}
    for split, metric in zip(tall["split"], tall["metric"], strict=True):
        rank = PREFERRED.index(metric) if metric in PREFERRED else len(PREFERRED)
        if split not in found or rank < found[split][0]:
            found[split] = (rank, metric)
    return [(split, metric) for split, (_, metric) in found.items()]


def _panel(
    axis: Any, wide: pandas.DataFrame, tall: pandas.DataFrame, split: str, metric: str
) -> None:
    rows = tall[(tall["split"] == split) & (tall["metric"] == metric)]
    cells = rows[rows["kind"] == "cell"].merge(
        wide.assign(share=curves.share_gone(wide)).drop_duplicates(
            subset=["model", "prune", "finetune", "dataset", "seed"]
        )[["model", "prune", "finetune", "dataset", "seed", "share"]],
        on=["model", "prune", "finetune", "dataset", "seed"],
        how="left",
    )
    tunings = list(dict.fromkeys(cells["finetune"]))
    methods = list(dict.fromkeys(cells["method"]))
    for (tuning, method), group in cells.groupby(["finetune", "method"], sort=False):
        value = group["value"].astype(float)
        # Methods of one sparsity would hide each other: set them apart a little.
        shift = 0.006 * (methods.index(method) - (len(methods) - 1) / 2)
        # Rounding can put a bound of equal values beyond their mean.
        errors = [
            (value - group["low"].astype(float)).clip(lower=0),
            (group["high"].astype(float) - value).clip(lower=0),
        ]
        axis.errorbar(
            group["share"] + shift,
            value,
            yerr=errors if group["low"].notna().all() else None,
            fmt=MARKERS[methods.index(method) % len(MARKERS)],
            color=PALETTE[tunings.index(tuning) % len(PALETTE)],
            capsize=3,
            markersize=6,
            label=f"{method} / {tuning}",
        )
    for index, (_, row) in enumerate(
        rows[(rows["kind"] == "baseline") & rows["value"].notna()].iterrows()
    ):
        style = ("--", ":", "-.")[index % 3]
        axis.axhline(row["value"], color="0.4", linestyle=style, linewidth=1, label=row["name"])
    levels = rows["chance"].dropna().unique()
    if len(levels) == 1 and not metric.startswith(("ppl", "word_perplexity")):
        axis.axhline(levels[0], color="0.4", linestyle=(0, (1, 3)), linewidth=1, label="chance")
    if metric.startswith("ppl"):
        axis.set_yscale("log")
    axis.set_xlabel("zero or removed among prunable weights, base + adapter (measured)")
    axis.set_ylabel(f"{metric} ({split})")
    axis.grid(alpha=0.3)
    if len(rows):
        axis.legend(fontsize=7)
