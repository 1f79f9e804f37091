"""Quality against density, a line an arm: the figure of a study with an iterated grid.

One row of panels a model and evaluation (its first metric), linear and logarithmic. Points are
means over seeds (of perplexities geometric ones), bars reach from the lowest seed to the highest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pandas

from prunegrid.tables.colours import MARKERS, PALETTE
from prunegrid.tables.render import is_perplexity

SCALES = ("linear", "log")
DENSE = "dense-tuned"


def has_arms(wide: pandas.DataFrame) -> bool:
    """Return whether some cell is a point of an arm."""
    return bool(wide["arm"].notna().any())


def share_gone(wide: pandas.DataFrame) -> pandas.Series:
    """Return the share of the dense model's prunable weights that are removed or zero, measured."""
    removed = wide["removed_prunable"].astype(float).fillna(0)
    return 1 - (1 - removed) * (1 - wide["sparsity_effective"].astype(float))


def points(wide: pandas.DataFrame, tall: pandas.DataFrame) -> pandas.DataFrame:
    """Return one row an arm, cell and score: {…, density, target, tokens, mean, low, high, seeds}.

    The dense model that was tuned on k budgets stands at the density of the k-th sparsity: what
    its tokens alone are worth there.

    Args:
        wide: the table; sparsity is read as measured on base and adapter (see `share_gone`).
        tall: the long table.
    """
    keys = ["model", "dataset", "prune", "finetune", "seed"]
    cells = tall[(tall["kind"] == "cell") & tall["arm"].notna() & tall["value"].notna()]
    measured = wide.assign(share=share_gone(wide))[[*keys, "share", "train_tokens"]]
    cells = cells.merge(measured, on=keys, how="left")
    cells = cells.assign(arm=cells["arm"].str.split("+")).explode("arm")
    found = []
    by = ["model", "split", "metric", "arm", "method", "prune", "finetune"]
    for key, group in cells.groupby(by, sort=False):
        values = group["value"].astype(float).to_numpy()
        logs = is_perplexity(key[2])
        found.append(
            {
                **dict(zip(by, key, strict=True)),
                "density": 1 - float(group["share"].mean()),
                "target": group["sparsity_target"].iloc[0],
                "tokens": float(group["train_tokens"].astype(float).fillna(0).mean()),
                "mean": float(numpy.exp(numpy.log(values).mean()) if logs else values.mean()),
                "low": values.min(),
                "high": values.max(),
                "seeds": len(values),
            }
        )
    return _placed(pandas.DataFrame(found))


def _placed(found: pandas.DataFrame) -> pandas.DataFrame:
    """Return the points, the tuned dense ones at the densities whose tokens they have."""
    for _, group in found.groupby(["model", "split", "metric"]):
        # Targets of one level are the same number; measured densities differ in their last digits.
        pruned = group[group["method"] != "dense"]
        levels = pruned.groupby("target")["density"].mean()
        own = group[group["arm"] == DENSE].sort_values("tokens")
        for index, density in zip(own.index, levels, strict=False):
            found.loc[index, "density"] = density
    return found


def draw_curves(wide: pandas.DataFrame, tall: pandas.DataFrame, title: str) -> Any:
    """Return the figure."""
    from matplotlib import pyplot

    found = points(wide, tall)
    chosen: dict[tuple[str, str], str] = {}
    for model, split, metric in zip(found["model"], found["split"], found["metric"], strict=True):
        chosen.setdefault((model, split), metric)
    panels = [(*place, metric) for place, metric in chosen.items()]
    figure, axes = pyplot.subplots(
        len(panels), len(SCALES), figsize=(12.8, 4.2 * len(panels)), squeeze=False
    )
    for line, (model, split, metric) in zip(axes, panels, strict=True):
        picked = (found["model"] == model) & (found["split"] == split)
        rows = found[picked & (found["metric"] == metric)]
        for axis, scale in zip(line, SCALES, strict=True):
            _panel(axis, rows, scale)
            axis.set_title(model)
            axis.set_ylabel(f"{metric} ({split}), {scale}")
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def _lines(rows: pandas.DataFrame) -> Iterator[tuple[str, str, pandas.DataFrame]]:
    """Yield (method, arm, points by falling density); the untouched dense model begins each."""
    methods = [method for method in dict.fromkeys(rows["method"]) if method != "dense"]
    for arm in dict.fromkeys(rows["arm"]):
        own = rows[rows["arm"] == arm]
        for method in ["dense"] if arm == DENSE else methods:
            line = own[own["method"].isin([method, "dense"])]
            yield method, arm, line.sort_values("density", ascending=False)


def _panel(axis: Any, rows: pandas.DataFrame, scale: str) -> None:
    arms, methods = list(dict.fromkeys(rows["arm"])), list(dict.fromkeys(rows["method"]))
    for method, arm, line in _lines(rows):
        axis.errorbar(
            line["density"],
            line["mean"],
            yerr=[(line["mean"] - line["low"]).clip(0), (line["high"] - line["mean"]).clip(0)],
            color=PALETTE[arms.index(arm) % len(PALETTE)],
            marker=MARKERS[methods.index(method) % len(MARKERS)],
            linestyle="--" if arm == DENSE else "-",
            capsize=3,
            label=arm if arm == DENSE else f"{method} / {arm}",
        )
    axis.invert_xaxis()
    axis.set_yscale(scale)
    axis.set_xlabel("density of prunable weights (measured)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
