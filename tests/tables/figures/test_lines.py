"""The lines of a study as data: what is a sweep, where its points stand, what the lines are."""

import dataclasses
import math

import pandas
import pytest

from prunegrid.tables import plot
from prunegrid.tables.figures import points
from prunegrid.tables.figures.lines import UNTOUCHED
from tests.helpers.figure_world import HALF, ROUGE, WIKI, World, around

# (arm, prune, finetune, sparsity, perplexity of two seeds)
CELLS = [
    ("one-shot", "dense", "none", 0.0, [20.0, 20.0]),
    ("one-shot", "s-0.3", "none", 0.3, [22.0, 24.0]),
    ("one-shot", "s-0.5", "none", 0.5, [40.0, 44.0]),
    ("one-shot", "s-0.6", "none", 0.6, [60.0, 80.0]),
    ("one-shot-tuned+iterative", "s-0.3", "t", 0.3, [19.0, 21.0]),
    ("one-shot-tuned", "s-0.5", "t-x2", 0.5, [30.0, 32.0]),
    ("iterative", "s-0.3+s-0.5", "t+t", 0.5, [27.0, 28.0]),
    ("one-shot-tuned", "s-0.6", "t-x3", 0.6, [40.0, 50.0]),
    ("iterative", "s-0.3+s-0.5+s-0.6", "t+t+t", 0.6, [30.0, 32.0]),
    ("dense-tuned", "dense", "t", 0.0, [18.0, 18.5]),
    ("dense-tuned", "dense", "t-x2", 0.0, [17.0, 17.5]),
    ("dense-tuned", "dense", "t-x3", 0.0, [16.0, 16.5]),
]


def iterated(cells=CELLS, failed=(), dataset="d", world=None):
    """Return a world of an iterated grid; `failed` are (prune, finetune) without scores."""
    world = world or World()
    for arm, prune, finetune, sparsity, values in cells:
        facts = {"arm": arm, "dataset": dataset, "sparsity_target": sparsity or None}
        facts |= {"method": "dense" if prune == "dense" else "s", "pattern": "unstructured"}
        facts |= {"status": "failed"} if (prune, finetune) in failed else {}
        scores = {} if (prune, finetune) in failed else {WIKI: values}
        world.cell(prune, finetune, scores, **facts)
    return world


def drawn(world, panel=0):
    """Return {name: places in percent} of a panel's lines, and the rows beside them."""
    along, rows = plot.parts_of(*world.tables())
    series = along.panels[panel].series
    return {line.name: [round(point.place) for point in line.points] for line in series}, rows


def sweep(levels=(0.5, 0.6, 0.7), tunings=("none",), methods=("wanda",), **facts):
    world = World().cell(scores={WIKI: around(20.0)})
    for tuning in tunings:
        if tuning != "none":
            world.cell("dense", tuning, {WIKI: around(19.0)})
        for method in methods:
            for level in levels:
                about = {"method": method, "pattern": "unstructured", "sparsity_target": level}
                scores = {WIKI: around(20 * math.exp(3 * level**2))}
                world.cell(f"{method}-{level}", tuning, scores, **about, **facts)
    return world


def test_three_sparsities_are_a_line_and_two_are_rows():
    assert drawn(sweep())[0] == {"Wanda": [50, 60, 70]}
    along, rows = plot.parts_of(*sweep((0.5, 0.7)).tables())
    assert along is None and len(rows.lines) == 3


def test_a_line_is_at_its_true_places_and_each_method_pattern_and_allocation_has_one():
    world = sweep((0.3, 0.5, 0.7), methods=("wanda", "sparsegpt"))
    for level in (0.3, 0.5, 0.7):
        facts = {"method": "wanda", "pattern": "unstructured", "allocation": "owl"}
        scores = {WIKI: around(30.0)}
        measured = {"sparsity_target": level, "sparsity_effective": level + 0.02}
        world.cell(f"wanda-{level}-owl", scores=scores, **facts, **measured)
    assert drawn(world)[0] == {
        "Wanda": [0, 30, 50, 70],
        "SparseGPT": [0, 30, 50, 70],
        "Wanda, OWL": [0, 32, 52, 72],  # as measured, each line alone
    }
    along, _ = plot.parts_of(*world.tables())
    assert [text for _, text in along.panels[0].ticks] == ["0%", "30%", "50%", "70%"]
    assert [line.index for line in along.panels[0].series] == [0, 1, 2]


def test_tunings_are_lines_and_begin_at_their_own_unpruned_model():
    world = sweep((0.2, 0.5, 0.8), ("none", "lora"))
    along, rows = plot.parts_of(*world.tables())
    assert along.names == ("Wanda, untuned", "Wanda, tuned: lora") and rows is None
    starts = [line.points[0].score.value for line in along.panels[0].series]
    assert starts == [20.0, 19.0]


def test_lines_do_not_begin_at_zero_where_most_of_them_would_be_empty():
    shown, rows = drawn(sweep(tunings=("none", "lora")))
    assert shown == {"Wanda, untuned": [50, 60, 70], "Wanda, tuned: lora": [50, 60, 70]}
    names = [getattr(line, "name", "") for line in rows.lines]
    assert names == ["", "dense", "", "dense"]  # the tuned dense model is a row instead


def test_what_is_no_sweep_is_a_row_beside_the_lines():
    world = sweep()
    for pattern in ("2:4", "4:8"):
        facts = {"method": "wanda", "pattern": pattern, "sparsity_target": 0.5}
        world.cell(f"wanda-{pattern}", scores={WIKI: around(50.0)}, **facts)
    shown, rows = drawn(world)
    assert shown == {"Wanda": [50, 60, 70]}
    assert [line.name for line in rows.lines] == ["dense", "wanda-2:4", "wanda-4:8"]


def test_the_untouched_model_is_a_band_and_controls_and_chance_are_levels():
    world = World()
    for prune, level, value in (("dense", None, 0.3), ("a", 0.3, 0.28), ("b", 0.5, 0.2),
                                ("c", 0.7, 0.1)):  # fmt: skip
        facts = {"pattern": "unstructured", "sparsity_target": level}
        world.cell(prune, scores={ROUGE: around(value)}, **facts).last(chance=0.15)
    world.control("lead-60", *ROUGE, 0.25).control("shuffled", "other", "rougeLsum", 0.2)
    along, rows = plot.parts_of(*world.tables())
    panel = along.panels[0]
    assert panel.band.value == 0.3 and panel.band.low < 0.3 < panel.band.high
    assert panel.levels == (("lead-60", 0.25), ("chance", 0.15)) and along.band == UNTOUCHED
    assert rows is None


def test_a_failed_level_is_left_out_and_the_line_stays_one():
    world = sweep((0.3, 0.5, 0.7))
    world.wide[-1] |= {"status": "failed", "sparsity_effective": None}
    world.long.pop()
    assert drawn(world)[0] == {"Wanda": [0, 30, 50]}


def test_models_and_measures_are_panels():
    world = World()
    for model in ("a", "b"):
        for level in (None, 0.3, 0.5, 0.7):
            facts = {"model": model, "pattern": "unstructured", "sparsity_target": level}
            scores = {WIKI: 20.0, ROUGE: 0.3}
            world.cell(f"w-{level}" if level else "dense", scores=scores, **facts)
    along, _ = plot.parts_of(*world.tables())
    assert [(panel.place, panel.measure.key) for panel in along.panels] == [
        ("a", ROUGE), ("a", WIKI), ("b", ROUGE), ("b", WIKI),
    ]  # fmt: skip


def test_each_arm_is_a_line():
    shown, rows = drawn(iterated())
    assert rows is None
    assert shown == {
        "s, at once, untuned": [0, 30, 50, 60],
        "s, at once, then tuned": [30, 50, 60],
        "s, in steps, tuned after each": [30, 50, 60],
        "dense, tuned on the same tokens": [30, 50, 60],
    }


def test_points_are_means_over_seeds():
    along, _ = plot.parts_of(*iterated().tables())
    last = along.panels[0].series[0].points[-1].score
    assert last.value == pytest.approx(math.sqrt(60 * 80)) and last.seeds == (60.0, 80.0)


def test_the_tuned_dense_model_stands_where_its_tokens_are_spent():
    along, _ = plot.parts_of(*iterated().tables())
    dense = along.panels[0].series[-1].points
    found = [(round(p.place), p.score.seeds[0]) for p in dense]
    assert found == [(30, 18.0), (50, 17.0), (60, 16.0)]


@pytest.mark.parametrize(
    "failed",
    [[("s-0.3", "t")], [("s-0.5", "t-x2"), ("s-0.3+s-0.5", "t+t")], [("s-0.6", "t-x3")]],
)
def test_a_failed_cell_moves_no_tuned_dense_point(failed):
    assert drawn(iterated(failed=failed))[0]["dense, tuned on the same tokens"] == [30, 50, 60]


def test_the_tuned_dense_model_stands_at_every_level_of_its_tokens():
    other = [
        ("one-shot-tuned", "m-0.1", "t", 0.1, [19.0, 21.0]),
        ("one-shot-tuned", "m-0.2", "t-x2", 0.2, [18.0, 20.0]),
    ]
    name = "dense, tuned on the same tokens"
    assert drawn(iterated(CELLS + other))[0][name] == [10, 20, 30, 50, 60]
    alone = [cell for cell in CELLS if cell[0] in ("one-shot", "dense-tuned")]
    assert drawn(iterated(alone))[0][name] == [0, 0, 0]


def test_each_data_set_has_panels_of_its_own():
    world = iterated(world=iterated(), dataset="e")
    along, _ = plot.parts_of(*world.tables())
    assert [panel.place for panel in along.panels] == ["m, d", "m, e"]


def test_an_iterated_grid_of_two_sparsities_is_rows_by_tuning():
    two = [cell for cell in CELLS if cell[3] < 0.6 and not cell[2].endswith("x3")]
    along, rows = plot.parts_of(*iterated(two).tables())
    assert along is None
    headings = [line.text for line in rows.lines if hasattr(line, "text")]
    assert headings == ["Not tuned", "Tuned: t", "Tuned: t-x2", "Tuned: t + t"]


def test_what_is_removed_and_what_is_zero_are_both_gone():
    shares = {"removed_prunable": [None, 0.5, 0.5], "sparsity_effective": [0.3, 0.0, 0.5]}
    wide = pandas.DataFrame(shares, dtype="Float64")
    assert points.share_gone(wide).tolist() == pytest.approx([0.3, 0.5, 0.75])


def test_cells_keep_their_order_and_count_their_seeds():
    world = World().cell("w", scores={WIKI: [1.0, 2.0, 3.0]}, **HALF).cell(scores={WIKI: 1.0})
    cells = points.cells_of(world.tables()[1])
    counts = [(cell.prune, cell.seeds, cell.failed) for cell in cells]
    assert counts == [("w", 3, 0), ("dense", 1, 0)]
    assert dataclasses.asdict(cells[0])["target"] == 0.5
