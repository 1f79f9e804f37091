"""The dot plot of a study as data: rows, groups, names, bands, what is beyond and what failed."""

import math

import pytest

from prunegrid.tables import plot
from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.dots import Heading, Row
from tests.helpers.figure_world import DEMO, HALF, PAIR, ROUGE, WIKI, World, around, demo


def rows_of(world):
    """Return the dot plot of a world that has no sweep."""
    along, rows = plot.parts_of(*world.tables())
    assert along is None
    return rows


def names(rows):
    """Return what stands in the lines from the top; headings as a list."""
    return [[line.text] if isinstance(line, Heading) else line.name for line in rows.lines]


def test_the_demo_is_a_row_a_cell_grouped_by_tuning():
    rows = rows_of(demo())
    assert names(rows) == [
        ["Not tuned"], "dense", "wiki-wanda-50",
        ["Tuned: demo-full"], "dense",
        ["Tuned: demo-qlora"], "dense", "wiki-wanda-50", "wiki-wanda-4of8", "wiki-wanda-2of4",
        "magnitude-2of4", "wiki-sparsegpt-2of4",
        ["No model"], "lead-60",
    ]  # fmt: skip
    about = [line.about for line in rows.lines if isinstance(line, Row)]
    assert about == [
        "untouched", "Wanda, 50% zeros", "not pruned", "not pruned", "Wanda, 50% zeros",
        "Wanda, 4:8", "Wanda, 2:4", "magnitude, 2:4", "SparseGPT, 2:4", "control",
    ]  # fmt: skip


def test_quality_and_perplexity_stand_side_by_side():
    quality, perplexity = rows_of(demo()).panels
    told = [display_names.measure_name(*panel.measure.key) for panel in (quality, perplexity)]
    assert told == ["ROUGE-Lsum, test", "Perplexity, wikipedia-512"]
    assert (quality.scale.is_log, perplexity.scale.is_log) == (False, True)
    ways = [panel.measure.higher_is_better for panel in (quality, perplexity)]
    assert list(map(display_names.direction, ways)) == ["higher is better", "lower is better"]
    assert [len(panel.marks) for panel in (quality, perplexity)] == [len(DEMO) + 1, len(DEMO)]
    items = [display_names.items_name(metric, 16, False) for _, metric in (ROUGE, WIKI)]
    assert items == ["16 documents", "16 windows of 512 tokens"]


def test_each_row_has_its_own_value_and_interval():
    rows = rows_of(demo())
    panel = rows.panels[1]
    shown = {line: score for (line, _), score in panel.marks.items()}
    order = [cell for cell in DEMO if cell[1] == "none"]
    order += [cell for cell in DEMO if cell[1] == "demo-full"]
    order += [cell for cell in DEMO if cell[1] == "demo-qlora"]
    values = [shown[line].value for line in sorted(shown)]
    assert values == pytest.approx([cell[4] for cell in order])
    assert all(score.low < score.value < score.high for score in shown.values())


def test_the_untouched_model_is_a_band_over_its_own_rows():
    world = World()
    for model, value in (("a", 20.0), ("b", 30.0)):
        world.cell(scores={WIKI: around(value)}, model=model)
        world.cell("w", "t", {WIKI: around(2 * value)}, model=model, **HALF)
    rows = rows_of(world)
    assert names(rows) == [
        ["a"], ["Not tuned"], "dense", ["Tuned: t"], "w",
        ["b"], ["Not tuned"], "dense", ["Tuned: t"], "w",
    ]  # fmt: skip
    bands = rows.panels[0].bands
    spans = [(*span, score.value) for span, score in bands.items()]
    assert spans == [(1, 4, 20.0), (6, 9, 30.0)]


def test_a_study_without_the_untouched_model_has_no_band():
    world = World().cell("w", "t", {WIKI: around(30.0)}, **HALF)
    assert rows_of(world).panels[0].bands == {}


def test_a_failed_cell_is_a_row_without_a_value():
    world = World().cell(scores={WIKI: around(20.0)})
    world.cell("w", status="failed", reason="it broke", **HALF)
    rows = rows_of(world)
    assert names(rows) == ["dense", "w"]
    assert (rows.lines[1].note, rows.lines[1].failed) == ("failed", (True,))
    assert list(rows.panels[0].marks) == [(0, 0)]


def test_seeds_are_one_row_that_says_which_failed():
    world = World().cell(scores={WIKI: around(20.0)})
    world.cell("w", scores={WIKI: [40.0, 90.0]}, **HALF)
    world.wide.append(world.wide[-1] | {"seed": 7, "status": "failed"})
    row = rows_of(world).lines[1]
    assert (row.name, row.note) == ("w", "1 of 3 seeds failed")
    score = rows_of(world).panels[0].scores[1]
    assert score.value == pytest.approx(math.sqrt(40 * 90)) and score.seeds == (40.0, 90.0)


def test_seeds_of_other_metrics_have_a_plain_mean():
    world = World().cell("w", scores={ROUGE: [0.2, 0.4]}, **HALF)
    assert rows_of(world).panels[0].scores[0].value == pytest.approx(0.3)


def test_a_value_far_off_is_marked_and_the_others_are_not():
    world = World().cell(scores={WIKI: around(19.6)})
    for index, value in enumerate((26.8, 59.8, 28.8, 52.0, 49.1, 19677.0)):
        world.cell(f"w{index}", scores={WIKI: around(value)}, **PAIR)
    panel = rows_of(world).panels[0]
    beyond = [panel.scale.beyond(score.value) for score in panel.scores]
    assert beyond == [""] * 6 + ["high"]


def test_a_transform_is_no_tuning():
    world = World().cell(scores={WIKI: around(20.0)})
    world.cell(finetune="nf4", scores={WIKI: around(21.0)}, loss_on=None, strategy="quantize")
    assert names(rows_of(world))[2] == ["Not tuned, then nf4"]


def test_controls_of_several_data_sets_are_told_apart():
    world = World().cell(scores={ROUGE: 0.3}).cell(scores={ROUGE: 0.2}, dataset="e")
    world.control("lead", *ROUGE, 0.25).control("lead", *ROUGE, 0.35, dataset="e")
    rows = rows_of(world)
    assert names(rows) == [["d"], "dense", ["e"], "dense", ["No model"], "lead, d", "lead, e"]
    assert [score.value for score in rows.panels[0].scores] == [0.3, 0.2, 0.25, 0.35]


def many(models=1, tunings=("none", "lora", "qlora")):
    world = World()
    for model in range(models):
        for prune in ["dense", *(f"w{i}" for i in range(15))]:
            for tuning in tunings:
                facts = {} if prune == "dense" else PAIR
                world.cell(prune, tuning, {WIKI: around(30.0)}, model=f"m{model}", **facts)
    return world


def test_many_rows_are_compact_a_row_a_pruning_and_a_lane_a_tuning():
    rows = rows_of(many())
    assert rows.is_compact and rows.lanes == ("Not tuned", "Tuned: lora", "Tuned: qlora")
    assert len(rows.lines) == 16
    panel = rows.panels[0]
    assert len(panel.marks) == 48
    assert [cell.finetune for cell in rows.lines[0].cells] == ["none", "lora", "qlora"]
    assert rows.lines[0].about == "not pruned"
    assert not rows_of(many(tunings=("none", "lora"))).is_compact  # 32 rows


def test_many_rows_of_one_tuning_stay_a_row_a_cell():
    rows = rows_of(many(models=3, tunings=("none",)))
    assert not rows.is_compact and len(rows.lines) == 3 * 17


def tasks(**plan):
    """Return a world of five tasks of which two are in a mean."""
    world = World(means={"both": {"tasks": ["x", "y"], "metric": "acc"}}, **plan)
    world.cell()
    for task in ("x", "y", "both", "piqa", "arc"):
        for metric in ("acc_norm", "acc"):
            world.score("cell", world.wide[0], task, metric, around(0.4))
            world.last(harness="h", chance=0.25, n=50)
    return world


def test_tasks_that_are_in_a_mean_are_left_to_it_and_accuracy_leads():
    panels = rows_of(tasks()).panels
    keys = [panel.measure.key for panel in panels]
    assert keys == [("both", "acc"), ("piqa", "acc"), ("arc", "acc")]
    assert {panel.measure.chance for panel in panels} == {0.25}
    assert display_names.items_name("acc", 50, panels[0].measure.is_task) == "50 items"


def test_a_users_own_metric_is_shown():
    world = World().cell(scores={("test", "mine"): 3.0})
    assert [panel.measure.key for panel in rows_of(world).panels] == [("test", "mine")]
    both = {ROUGE: 0.3, ("test", "rep4"): 0.1, ("test", "mine"): 3.0}
    world = World(own_metrics=["mine"]).cell(scores=both)
    assert [panel.measure.key for panel in rows_of(world).panels] == [ROUGE, ("test", "mine")]
    assert display_names.measure_name("test", "mine") == "mine, test"


def test_a_study_says_what_to_show():
    scores = {ROUGE: 0.3, ("test", "rep4"): 0.1, ("other", "rep4"): 0.2, WIKI: 20.0}
    world = World(show=["wikipedia-512_ppl_512_nonoverlap", "rep4"]).cell(scores=scores)
    keys = [panel.measure.key for panel in rows_of(world).panels]
    assert keys == [WIKI, ("test", "rep4"), ("other", "rep4")]


def test_the_metric_of_the_contrasts_is_the_main_one():
    contrast = {"split": "test", "metric": "rouge1"}
    world = World(contrasts=[contrast]).cell(scores={ROUGE: 0.3, ("test", "rouge1"): 0.4})
    assert [panel.measure.key for panel in rows_of(world).panels] == [("test", "rouge1")]


def test_prunings_are_told_in_plain_words():
    world = World()
    kinds = [
        ({"method": "taylor", "pattern": "structured", "units": "heads+mlp"},
         "Taylor, heads and MLP, 25% removed"),
        ({"method": "ria", "allocation": "owl", "pattern": "unstructured"}, "RIA, 25% zeros, OWL"),
        ({"method": "sparsegpt", "pattern": "2:4", "update": "least_squares"},
         "SparseGPT, 2:4, least squares"),
    ]  # fmt: skip
    for index, (facts, _) in enumerate(kinds):
        world.cell(f"p{index}", scores={WIKI: 20.0}, sparsity_target=0.25, **facts)
    assert [row.about for row in rows_of(world).lines] == [told for _, told in kinds]
