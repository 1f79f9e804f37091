"""The figure of an iterated grid: a line an arm over the density that was measured."""

import math

import pandas as pd
import pytest
from matplotlib import pyplot

from prunegrid.tables import curves, plot

METRIC = "ppl_512_nonoverlap"
# (arm, prune, finetune, method, sparsity, tokens, perplexity of two seeds)
CELLS = [
    ("one-shot", "dense", "none", "dense", 0.0, None, (20.0, 20.0)),
    ("one-shot", "s-0.3", "none", "s", 0.3, None, (22.0, 24.0)),
    ("one-shot", "s-0.6", "none", "s", 0.6, None, (60.0, 80.0)),
    ("one-shot-tuned+iterative", "s-0.3", "t", "s", 0.3, 100, (19.0, 21.0)),
    ("one-shot-tuned", "s-0.6", "t-x2", "s", 0.6, 200, (40.0, 50.0)),
    ("iterative", "s-0.3+s-0.6", "t+t", "s", 0.6, 200, (30.0, 32.0)),
    ("dense-tuned", "dense", "t", "dense", 0.0, 100, (18.0, 18.5)),
    ("dense-tuned", "dense", "t-x2", "dense", 0.0, 200, (17.0, 17.5)),
]


def tables(metric=METRIC):
    wide, tall = [], []
    for arm, prune, finetune, method, sparsity, tokens, values in CELLS:
        for seed, value in enumerate(values):
            keys = {"model": "m", "dataset": "d", "prune": prune, "finetune": finetune}
            keys |= {"seed": seed, "arm": arm, "method": method}
            target = {"sparsity_target": sparsity or None, "kind": "cell", "split": "w"}
            shares = {"sparsity_effective": sparsity, "removed_prunable": None}
            wide.append({**keys, **shares, "train_tokens": tokens})
            tall.append({**keys, **target, "metric": metric, "value": value})
    tall.append({**tall[-1], "kind": "baseline", "value": 1.0})
    return pd.DataFrame(wide), pd.DataFrame(tall)


def picked(found, arm, density):
    (row,) = found[(found["arm"] == arm) & (found["density"].round(2) == density)].to_dict(
        "records"
    )
    return row


def test_points_are_means_over_seeds_at_the_density_measured():
    found = curves.points(*tables())
    row = picked(found, "one-shot", 0.4)
    assert row["mean"] == pytest.approx(math.sqrt(60 * 80))
    assert (row["low"], row["high"], row["seeds"]) == (60.0, 80.0, 2)
    assert len(found) == len(CELLS) + 1  # the point of two arms stands in both
    assert picked(found, "iterative", 0.7)["mean"] == picked(found, "one-shot-tuned", 0.7)["mean"]


def test_what_is_removed_and_what_is_zero_are_both_gone():
    wide = pd.DataFrame(
        {
            "removed_prunable": pd.array([None, 0.5, 0.5], dtype="Float64"),
            "sparsity_effective": pd.array([0.3, 0.0, 0.5], dtype="Float64"),
        }
    )
    assert curves.share_gone(wide).tolist() == pytest.approx([0.3, 0.5, 0.75])


def test_scores_that_are_no_perplexities_have_plain_means():
    found = curves.points(*tables("rougeLsum"))
    assert picked(found, "one-shot", 0.4)["mean"] == pytest.approx(70.0)


def test_the_tuned_dense_model_stands_where_its_tokens_are_spent():
    found = curves.points(*tables())
    assert picked(found, "dense-tuned", 0.7)["high"] == 18.5
    assert picked(found, "dense-tuned", 0.4)["high"] == 17.5


def test_each_arm_is_a_line_on_both_scales():
    figure = curves.draw_curves(*tables(), "a title")
    linear, log = figure.axes
    assert (linear.get_yscale(), log.get_yscale()) == ("linear", "log")
    labels = [text.get_text() for text in linear.get_legend().get_texts()]
    assert labels == ["s / one-shot", "s / one-shot-tuned", "s / iterative", "dense-tuned"]
    line = next(c for c in linear.containers if c.get_label() == "s / one-shot")
    assert [round(x, 2) for x in line.lines[0].get_xdata()] == [1.0, 0.7, 0.4]
    assert linear.get_xlim()[0] > linear.get_xlim()[1]  # density falls to the right
    assert "density" in linear.get_xlabel() and METRIC in linear.get_ylabel()
    pyplot.close(figure)


@pytest.mark.parametrize("form", ["png", "svg"])
def test_equal_tables_give_equal_files(tmp_path, form):
    plan = {"title": "", "study": "s"}
    for name in ("a", "b"):
        plot.save_plots(plan, *tables(), tmp_path / name, form)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size > 5000
