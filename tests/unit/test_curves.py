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
# Of plain grids and chains beside the iterated one.
PLAIN = [
    (None, "dense", "long", "dense", 0.0, 900, (16.0, 16.5)),
    (None, "b-0.5", "none", "s", 0.5, None, (90.0, 91.0)),
    (None, "b-0.5", "long", "s", 0.5, 900, (33.0, 34.0)),
    (None, "s-0.3+s-0.6", "t+long", "s", 0.6, 900, (25.0, 26.0)),
]


def tables(metric=METRIC, cells=CELLS, dataset="d"):
    wide, tall = [], []
    for arm, prune, finetune, method, sparsity, tokens, values in cells:
        for seed, value in enumerate(values):
            keys = {"model": "m", "dataset": dataset, "prune": prune, "finetune": finetune}
            keys |= {"seed": seed, "arm": arm, "method": method, **dict.fromkeys(curves.APART)}
            keys |= {"strategy": "none" if finetune == "none" else "full"}
            keys |= {"units": "blocks"} if prune.startswith("b-") else {}
            keys |= {"sparsity_target": sparsity or None}
            shares = {"sparsity_effective": sparsity, "removed_prunable": None}
            scored = {"kind": "cell", "split": "w", "metric": metric, "value": value}
            wide.append({**keys, **shares, "train_tokens": tokens})
            tall.append({**keys, **scored})
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


def dense_tuned(cells, failed=()):
    """Return {(tuning, density)} of the tuned dense points."""
    wide, tall = tables(cells=cells)
    chains = [tuple(pair) for pair in zip(tall["prune"], tall["finetune"], strict=True)]
    found = curves.points(wide, tall[[chain not in failed for chain in chains]])
    own = found[found["arm"] == "dense-tuned"]
    return set(zip(own["finetune"], own["density"].round(2), strict=True))


def test_a_failed_cell_moves_no_tuned_dense_point():
    both = {("t", 0.7), ("t-x2", 0.4)}
    assert dense_tuned(CELLS) == both
    assert dense_tuned(CELLS, {("dense", "t")}) == both - {("t", 0.7)}
    x2 = [("s-0.6", "t-x2"), ("s-0.3+s-0.6", "t+t")]
    assert dense_tuned(CELLS, x2) == dense_tuned(CELLS, x2[:1]) == both
    assert dense_tuned(CELLS, [("s-0.3", "t")]) == both


def test_the_tuned_dense_model_stands_at_every_level_of_its_tokens():
    """Two lists of sparsities in one study; and arms of which none spends its tokens."""
    other = [
        ("one-shot-tuned", "m-0.1", "t", "m", 0.1, 100, (19.0, 21.0)),
        ("one-shot-tuned", "m-0.2", "t-x2", "m", 0.2, 200, (18.0, 20.0)),
    ]
    levels = {("t", 0.7), ("t-x2", 0.4), ("t", 0.9), ("t-x2", 0.8)}
    assert dense_tuned(CELLS + other) == levels
    iterative = [cell for cell in CELLS if cell[0] != "one-shot-tuned"]
    assert dense_tuned(iterative) == {("t", 0.7), ("t-x2", 0.4)}
    alone = [cell for cell in CELLS if cell[0] in ("one-shot", "dense-tuned")]
    assert dense_tuned(alone) == {("t", 1.0), ("t-x2", 1.0)}


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


def lines(figure):
    """Return {label: rounded densities} of the first panel."""
    return {
        c.get_label(): [round(x, 2) for x in c.lines[0].get_xdata()]
        for c in figure.axes[0].containers
    }


def test_cells_of_no_arm_are_drawn_too():
    assert len(curves.points(*tables(cells=CELLS + PLAIN))) == len(CELLS) + 1 + len(PLAIN)
    figure = curves.draw_curves(*tables(cells=CELLS + PLAIN), "a title")
    assert lines(figure) == {
        "s / one-shot": [1.0, 0.7, 0.4],
        "s blocks / one-shot": [1.0, 0.5],  # no line through units of two kinds
        "s / one-shot-tuned": [0.7, 0.4],
        "s / iterative": [0.7, 0.4],
        "dense-tuned": [0.7, 0.4],
        "s blocks / long": [1.0, 0.5],
        "s / t+long": [0.4],
    }
    pyplot.close(figure)


def test_an_arm_of_the_dense_model_alone_is_a_line():
    figure = curves.draw_curves(*tables(cells=CELLS + PLAIN[:1]), "a title")
    assert lines(figure)["dense / long"] == [1.0]
    pyplot.close(figure)


def test_each_data_set_has_panels_of_its_own():
    both = zip(tables(), tables(dataset="e"), strict=True)
    wide, tall = (pd.concat(pair, ignore_index=True) for pair in both)
    assert set(curves.points(wide, tall)["seeds"]) == {2}
    figure = curves.draw_curves(wide, tall, "a title")
    assert [axis.get_title() for axis in figure.axes[::2]] == ["m / d", "m / e"]
    pyplot.close(figure)


def test_a_study_whose_cells_all_failed_has_an_empty_figure():
    wide, tall = tables()
    figure = curves.draw_curves(wide, tall[:0], "a title")
    assert not any(axis.containers for axis in figure.axes)
    pyplot.close(figure)


@pytest.mark.parametrize("form", ["png", "svg"])
def test_equal_tables_give_equal_files(tmp_path, form):
    plan = {"title": "", "study": "s"}
    for name in ("a", "b"):
        plot.save_plots(plan, *tables(), tmp_path / name, form)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size > 5000
