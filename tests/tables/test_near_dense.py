"""Models as good as dense are not ranked by their distance from it."""

import pandas
import pytest

from prunegrid.commands.study_sheet import of_frames
from prunegrid.tables.finished import gather
from prunegrid.tables.headline import measures_of
from prunegrid.tables.latex import render_latex
from prunegrid.tables.near_dense import is_near
from prunegrid.tables.render import render_markdown
from prunegrid.tables.schema import PAIRS
from tests.helpers import figure_world
from tests.helpers.contrast_world import World
from tests.helpers.figure_world import WIKI

PLAN = {"bootstrap_seed": 0}
DISTANCE = {"distance": True}
KL = ("apart", "kl")
LOSSES = [30.0, 36.0, 27.0, 33.0, 40.0, 25.0, 31.0, 34.0]


def windows(folder, shift):
    frame = pandas.DataFrame({"tokens": 15, "dense_loss": LOSSES})
    frame.assign(loss=frame["dense_loss"] + shift).to_parquet(folder / "windows.parquet")
    return folder


@pytest.mark.parametrize(
    ("shift", "near"), [(0, True), (2, True), (-2, True), (15, False), (-15, False)]
)
def test_a_model_is_near_where_the_intervals_overlap(tmp_path, shift, near):
    assert is_near(PLAN, windows(tmp_path, shift), DISTANCE) is near


def test_other_scores_are_no_distances(tmp_path):
    assert is_near(PLAN, tmp_path, {"mean": 1}) is None


def verdict(world, a, b):
    sides = {"a": {"prune": a}, "b": {"prune": b}}
    (found,) = world.verdicts({**sides, "split": "apart", "metric": "kl"})
    return found["near_dense"], found["verdict"]


def test_a_contrast_by_distance_ranks_no_model_as_good_as_dense(tmp_path):
    """Both differences are clear: only the words differ."""
    world = World(tmp_path).cell("dense", 0, kl=(0.0, True)).cell("near", 0, kl=(0.5, True))
    world.cell("far", 0, kl=(1.0, False)).cell("farther", 0, kl=(2.0, False))
    assert verdict(world, "near", "dense") == ("both", "not ranked: as good as dense")
    assert verdict(world, "near", "far") == ("a", "not ranked: as good as dense")
    assert verdict(world, "far", "near") == ("b", "not ranked: as good as dense")
    assert verdict(world, "farther", "far") == ("none", "worse")
    assert verdict(world, "far", "farther") == ("none", "better")


def test_other_contrasts_say_nothing_of_distances(tmp_path):
    world = World(tmp_path).cell("dense", 0, kl=(0.0, True)).cell("w", -0.05, kl=(0.5, True))
    (found,) = world.verdicts({"a": {"prune": "dense"}, "b": {"prune": "w"}})
    assert (found["near_dense"], found["verdict"]) == (None, "better")


def distances():
    """Return (plan, wide, tall) of three pruned models, the nearest of them as good as dense."""
    world = figure_world.World().cell(scores={WIKI: 20.0, KL: 0.0}, apart_kl=0.0)
    world.last(near_dense=True, higher_is_better=False)
    for name, value, near in (("near", 0.1, True), ("far", 0.4, False), ("farther", 0.9, False)):
        facts = {"method": "wanda", "sparsity_target": 0.5, "apart_kl": value}
        world.cell(name, scores={WIKI: 20 + value, KL: value}, **facts)
        world.last(near_dense=near, higher_is_better=False)
    return world.tables()


def test_the_terminal_marks_the_best_of_those_that_are_ranked():
    plan, wide, tall = distances()
    shown = of_frames(wide, tall, plan).find("apart kl")
    texts = dict(zip(wide["prune"], shown.texts, strict=True))
    signs = dict(zip(wide["prune"], shown.marks, strict=True))
    assert signs == {"dense": "", "near": "", "far": "▲", "farther": "▼"}
    assert texts["near"].endswith("≈") and "≈" not in texts["far"]


def test_latex_and_markdown_say_why():
    plan, wide, tall = distances()
    for text, mark in (
        (render_latex({**plan, "show": ["kl"]}, wide, tall), r"0.100$^{\simeq}$"),
        (render_markdown(plan, wide, tall), "0.100 ≈"),
    ):
        assert mark in text and "KL and agreement say how much" in text


def test_a_figure_shows_distances_only_if_they_are_named():
    plan, _, tall = distances()
    assert [one.key for one in measures_of(plan, tall)] == [WIKI]
    (named,) = measures_of({**plan, "show": ["kl"]}, tall)
    assert named.key == KL and not named.ranks
    assert measures_of(plan, tall)[0].ranks


def test_a_claim_takes_no_model_as_good_as_dense_for_the_better():
    _, wide, tall = distances()
    pairs = pandas.DataFrame(columns=[column.name for column in PAIRS])
    low = gather(wide, tall, pairs).low
    assert {(cell[-1], metric) for cell, _, metric in low} == {
        ("dense / none", "kl"),
        ("near / none", "kl"),
    }
