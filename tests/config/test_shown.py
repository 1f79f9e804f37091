"""What a study shows: its `show`, its own metrics, and what the page makes of them."""

import pandas
import pytest

from prunegrid.config import shown
from prunegrid.graph.artifact_graph import Graph
from prunegrid.tables.headline import headline
from prunegrid.tables.render import render_markdown
from prunegrid.tables.table_plan import study_plan
from tests.helpers import shipped
from tests.helpers.figure_world import ROUGE, WIKI, World
from tests.helpers.shipped import ROOT, changed, check, faults

MINE = """
COLUMNS = {"mine": {"higher_is_better": True}, "other": {"higher_is_better": None}}
"""


@pytest.fixture(scope="module")
def raw():
    return shipped.config()


@pytest.mark.parametrize(
    "name",
    ["rougeLsum", "test_rougeLsum", "wikipedia-512_ppl_512_nonoverlap", "ppl_512_nonoverlap"],
)
def test_metrics_and_columns_may_be_shown(raw, name):
    config = check(changed(raw, "studies", "recovery", "show", [name]))
    assert config.profile("studies", "recovery").show == [name]


@pytest.mark.parametrize(
    ("study", "show", "words"),
    [
        ("recovery", ["rougeLSum"], ["studies.recovery.show", "did you mean 'rougeLsum'"]),
        ("recovery", ["tests_rouge1"], ["'tests_rouge1'", "did you mean 'test_rouge1'"]),
        ("recovery", ["rouge1", "rouge1"], ["show.1", "a second time"]),
        ("multitask", ["piqa_ac"], ["did you mean 'piqa_acc'"]),
        ("multitask", ["bleu"], ["studies.multitask.show", "is 'bleu', which is not measured"]),
        ("architectures-small", ["numbers-en-de_chrff"], ["did you mean 'numbers-en-de_chrf'"]),
        ("recovery", "rouge1", ["studies.recovery.show", "list"]),
    ],
)
def test_a_name_that_is_not_measured_is_told_with_the_nearest(raw, study, show, words):
    text = "\n".join(faults(changed(raw, "studies", study, "show", show)))
    for word in words:
        assert word in text, text


def own(raw, tmp_path, text, show=()):
    path = tmp_path / "counted.py"
    path.write_text(text)
    raw = changed(raw, "metrics", "counted", {"module": str(path)})
    raw["evaluations"]["papers"]["metrics"] = ["rouge", "counted"]
    raw["studies"] = {"s": {**raw["studies"]["recovery"], "show": list(show)}}
    return raw


def test_a_users_own_metrics_are_in_the_plan(raw, tmp_path):
    config = check(own(raw, tmp_path, MINE, ["mine", "test_other"]))
    plan = study_plan(Graph(config, ROOT), "s", ROOT)
    assert (plan["show"], plan["own_metrics"]) == (["mine", "test_other"], ["mine", "other"])
    shipped = check(raw)
    assert shown.own_metrics(shipped, shipped.profile("studies", "recovery")) == []


def test_a_metric_that_does_not_say_its_columns_is_shown_by_its_name(raw, tmp_path):
    config = check(own(raw, tmp_path, "COLUMNS = {}", ["whatever"]))  # nothing can be checked
    assert shown.own_metrics(config, config.profile("studies", "s")) == ["counted", "counted_"]


SCORES = {ROUGE: 0.3, ("test", "empty"): 0.1, ("test", "mine_a"): 3.0, WIKI: 20.0}


@pytest.mark.parametrize(
    ("plan", "pairs"),
    [
        ({}, [ROUGE, WIKI]),
        ({"own_metrics": ["mine", "mine_"]}, [ROUGE, ("test", "mine_a"), WIKI]),
        ({"own_metrics": ["mine_a", "mine_"]}, [ROUGE, ("test", "mine_a"), WIKI]),
        ({"show": ["empty", "wikipedia-512_ppl_512_nonoverlap"]}, [("test", "empty"), WIKI]),
        ({"show": ["gone"]}, [ROUGE, WIKI]),  # every cell that has it failed
    ],
)
def test_the_page_shows_what_the_study_says(plan, pairs):
    plan, wide, tall = World(**plan).cell(scores=SCORES).tables()
    assert headline(plan, tall) == pairs
    for (split, metric), score in SCORES.items():
        wide[f"{split}_{metric}"] = pandas.array([score], dtype="Float64")
    text = render_markdown(plan, wide, tall)
    header = next(line for line in text.splitlines() if line.startswith("| model"))
    for pair in SCORES:
        assert (" ".join(pair) in header) is (pair in pairs)
