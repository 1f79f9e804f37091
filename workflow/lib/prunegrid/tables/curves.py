"""Quality against density, a line an arm: the figure of a study with an iterated grid.

One row of panels a model, data set and evaluation (its first metric), linear and logarithmic.
Points are means over seeds (of perplexities geometric ones), bars reach from the lowest seed to the
highest. A cell of no arm is a point of its fine-tuning's line, an untuned one of `one-shot`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy
import pandas

from prunegrid.tables.colours import MARKERS, PALETTE
from prunegrid.tables.render import is_perplexity

SCALES = ("linear", "log")
UNTUNED, DENSE = "one-shot", "dense-tuned"
TUNED = ("one-shot-tuned", "iterative")  # of the same tokens as DENSE at each sparsity
# What sets prunings of one method apart, sparsity left out: each is a line of its own.
APART = ("pattern", "units", "scope", "allocation", "update", "propagation", "calibration")


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
    cells = tall[(tall["kind"] == "cell") & tall["value"].notna()]
    measured = wide.assign(share=share_gone(wide))[[*keys, "share", "train_tokens"]]
    cells = cells.merge(measured, on=keys, how="left")
    cells = cells.assign(arm=cells["arm"].str.split("+")).explode("arm")
    # A chain's name has a "+" too, and is one line.
    without = cells["finetune"].mask(cells["strategy"] == "none", UNTUNED)
    cells["arm"] = cells["arm"].fillna(without)
    found = []
    by = ["model", "dataset", "split", "metric", "arm", "method", *APART, "prune", "finetune"]
    for key, group in cells.groupby(by, sort=False, dropna=False):
        values = group["value"].astype(float).to_numpy()
        logs = is_perplexity(key[by.index("metric")])
        found.append(
            {
                **dict(zip(by, key, strict=True)),
                "density": 1 - float(group["share"].mean()),
                "target": group["sparsity_target"].astype(float).iloc[0],
                "tokens": float(group["train_tokens"].astype(float).fillna(0).mean()),
                "mean": float(numpy.exp(numpy.log(values).mean()) if logs else values.mean()),
                "low": values.min(),
                "high": values.max(),
                "seeds": len(values),
            }
        )
    columns = [*by, "density", "target", "tokens", "mean", "low", "high", "seeds"]
    return _placed(pandas.DataFrame(found, columns=columns).astype({"target": float}), wide)


def _placed(found: pandas.DataFrame, wide: pandas.DataFrame) -> pandas.DataFrame:
    """Return the points, the tuned dense ones at the densities whose tokens they have.

    Such a point stands where a tuned arm spends its tokens, at the mean of the densities measured
    there, or at the one aimed at where those cells failed; and at its own, 1, where none does.
    """
    place = ["model", "dataset"]
    tuned = wide.assign(arm=wide["arm"].str.split("+")).explode("arm")
    tuned = tuned[tuned["arm"].isin(TUNED)]
    aims = tuned["sparsity_target"].astype(float)
    tuned = tuned.assign(finetune=tuned["finetune"].map(_at_once), target=aims)
    spent = tuned[[*place, "finetune", "target"]].drop_duplicates()
    # Targets of one level are the same number; measured densities differ in their last digits.
    by = [*place, "split", "metric", "target"]
    reached = found[found["arm"].isin(TUNED)].groupby(by, dropna=False)["density"].mean()
    own = found[found["arm"] == DENSE].drop(columns="target")
    own = own.merge(spent, on=[*place, "finetune"], how="left")
    own = own.merge(reached.rename("reached").reset_index(), on=by, how="left")
    own["density"] = own.pop("reached").fillna(1 - own["target"]).fillna(own["density"])
    others = found[found["arm"] != DENSE]
    return others if own.empty else pandas.concat([others, own], ignore_index=True)


def _at_once(tunings: str) -> str:
    """Return the name of one tuning of as many budgets as a chain has (see `prunegrid.grid`)."""
    first, *more = tunings.split("+")
    return f"{first}-x{1 + len(more)}" if more else first


def draw_curves(wide: pandas.DataFrame, tall: pandas.DataFrame, title: str) -> Any:
    """Return the figure."""
    from matplotlib import pyplot

    found = points(wide, tall)
    by = ["model", "dataset", "split"]
    places = [rows for _, rows in found.groupby(by, sort=False, dropna=False)]
    several = found[["model", "dataset"]].drop_duplicates()["model"].duplicated(keep=False).any()
    lines = max(1, len(places))
    figure, axes = pyplot.subplots(lines, len(SCALES), figsize=(12.8, 4.2 * lines), squeeze=False)
    for line, rows in zip(axes, places, strict=False):
        model, dataset, split, metric = rows[[*by, "metric"]].iloc[0]
        for axis, scale in zip(line, SCALES, strict=True):
            _panel(axis, rows[rows["metric"] == metric], scale)
            axis.set_title(f"{model} / {dataset}" if several else model)
            axis.set_ylabel(f"{metric} ({split}), {scale}")
    figure.suptitle(title)
    figure.tight_layout()
    return figure


def _labels(rows: pandas.DataFrame) -> pandas.Series:
    """Return what each point's pruning is called: its method, and what varies among its points."""
    found = rows["method"].astype(object)
    for method, own in rows[rows["method"] != "dense"].groupby("method"):
        for name in APART:
            if own[name].nunique(dropna=False) > 1:
                said = own[name].map(lambda value: "" if pandas.isna(value) else f" {value}")
                found.loc[rows["method"] == method] += said
    return found


def _lines(rows: pandas.DataFrame) -> Iterator[tuple[str, str, pandas.DataFrame]]:
    """Yield (pruning, arm, points by falling density); the unpruned model of the arm begins each.

    Args:
        rows: the points of a panel, with their `label`.
    """
    for arm in dict.fromkeys(rows["arm"]):
        own = rows[rows["arm"] == arm]
        labels = dict.fromkeys(own["label"])
        for label in [label for label in labels if label != "dense"] or labels:
            line = own[own["label"].isin([label, "dense"])]
            yield label, arm, line.sort_values("density", ascending=False)


def _panel(axis: Any, rows: pandas.DataFrame, scale: str) -> None:
    rows = rows.assign(label=_labels(rows))
    arms, labels = list(dict.fromkeys(rows["arm"])), list(dict.fromkeys(rows["label"]))
    # What there is more of is told apart by colour.
    by_arm = len(arms) >= len(set(labels) - {"dense"})
    for label, arm, line in _lines(rows):
        colour, marker = arms.index(arm), labels.index(label)
        if not by_arm:
            colour, marker = marker, colour
        axis.errorbar(
            line["density"],
            line["mean"],
            yerr=[(line["mean"] - line["low"]).clip(0), (line["high"] - line["mean"]).clip(0)],
            color=PALETTE[colour % len(PALETTE)],
            marker=MARKERS[marker % len(MARKERS)],
            linestyle="--" if arm == DENSE else "-",
            capsize=3,
            label=arm if arm == DENSE else f"{label} / {arm}",
        )
    axis.invert_xaxis()
    axis.set_yscale(scale)
    axis.set_xlabel("density of prunable weights (measured)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
