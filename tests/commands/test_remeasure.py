"""Which cells are timed, beside what; and timings that are taken again."""

import copy
import fcntl
from pathlib import Path

import pytest

from prunegrid.artifacts.lock import LIVE
from prunegrid.commands import cli, options_of, remeasure
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import with_ancestors
from prunegrid.tables import table_plan as tables
from tests.helpers import shipped
from tests.helpers.study_world import ROOT, make

RAW = shipped.config()
GRID = {
    "model": "smollm2-135m",
    "prune": ["dense", "wiki-wanda-50"],
    "finetune": ["none", "demo-qlora"],
}
STUDY = {"dataset": "aclsum", "grid": GRID, "evaluations": ["wikipedia-512"], "efficiency": "quick"}


def graph(**study):
    tree = copy.deepcopy(RAW) | {"studies": {"s": STUDY | study}}
    return Graph(validate(tree, shipped.FILES, ROOT), ROOT)


def test_a_cell_is_timed_beside_the_untouched_model_of_its_chain():
    plans = graph().plans("s")
    assert len(plans) == 4
    for plan in plans:
        model, *steps = plan.chain
        parents = plan.efficiency.parents
        assert parents["weights"] is plan.chain[-1]
        assert parents.get("dense") is (model if steps else None)
    steps = [{"prune": "wiki-wanda-50"}, {"finetune": "demo-full"}, {"finetune": "int8"}]
    chains = {"grid": {"model": "smollm2-135m", "steps": [steps]}}
    (plan,) = graph(**chains).plans("s")
    assert len(plan.chain) == 4 and plan.efficiency.parents["dense"] is plan.chain[0]


def test_by_default_all_cells_are_timed_and_a_study_may_say_which():
    dense, tuned = {"prune": "dense", "finetune": "none"}, {"finetune": "demo-qlora"}
    some = [dense, tuned | {"prune": "wiki-wanda-50"}]
    counts = ((None, 4), (some, 2), ([{"prune": "dense"}], 2), ([{"model": "smollm2-135m"}], 4))
    for timed, expected in counts:
        made = graph(**({} if timed is None else {"timed": timed}))
        found = [plan for plan in made.plans("s") if plan.efficiency]
        assert len(found) == expected
        assert len(remeasure.timings(made, "s")) == expected
        cells = tables.study_plan(made, "s", ROOT)["cells"]
        assert sum(cell["efficiency"] is not None for cell in cells) == expected
    # What is not timed has no other key, nor has what is.
    keys = {plan.efficiency.key for plan in graph(timed=some).plans("s") if plan.efficiency}
    assert keys < {plan.efficiency.key for plan in graph().plans("s")}


TUNED = {"prune": "dense", "finetune": "demo-full"}
NONE = "chooses no cell of the grid"


@pytest.mark.parametrize(
    "study,words",
    [
        ({"timed": [TUNED]}, f"timed.0 {NONE} (prune: dense, finetune: demo-full)"),
        ({"timed": [{"prune": "dense"}, {"seed": 7}]}, f"timed.1 {NONE} (seed: 7)"),
        ({"timed": [{"prune": "dense"}], "efficiency": None}, "not used without `efficiency`"),
        ({"timed": []}, "timed is []"),
        ({"timed": [{}]}, "name some of model, dataset, prune, finetune, seed"),
        ({"timed": [{"tuned": "x"}]}, "tuned is not a key here"),
    ],
)
def test_a_selector_that_chooses_nothing_is_an_error(study, words):
    with pytest.raises(ConfigError) as caught:
        graph(**study)
    assert any(words in fault for fault in caught.value.faults), caught.value.faults


def test_a_selector_of_a_broken_profile_has_no_fault_of_its_own():
    tree = copy.deepcopy(RAW) | {"studies": {"s": STUDY | {"timed": [{"prune": "wiki-wanda-50"}]}}}
    tree["prune"]["wiki-wanda-50"]["sparsity"] = 7.0
    with pytest.raises(ConfigError) as caught:
        validate(tree, shipped.FILES, ROOT)
    assert not any("timed" in fault for fault in caught.value.faults)


@pytest.fixture
def timed(tmp_path, monkeypatch):
    """The study's artifacts; the second of its four timings was disturbed."""
    monkeypatch.chdir(tmp_path)
    made = graph()
    second = made.plans("s")[1].efficiency
    for node in with_ancestors(made.study_leaves("s")):
        why = ["others ran"] if node is second else []
        make(node, record={"weights": {"parameters": 1000}, "disturbed": why})
    return made


def left(made):
    return [Path(plan.efficiency.manifest).exists() for plan in made.plans("s")]


def test_only_disturbed_timings_are_removed_and_their_table_is_stale(timed):
    plan = tables.study_plan(timed, "s", ROOT)
    table = {"key": plan["key"], "complete": True, "files": {}, "leaves": {}}
    for leaf in timed.study_leaves("s"):
        table["leaves"][leaf.manifest] = file_io.read_json(Path(leaf.manifest))["content"]
    file_io.write_json(Path("results/s.manifest.json"), table)
    assert not tables.is_stale(plan)
    others = [node for node in timed.all_nodes() if node.stage != "efficiency"]
    (line,) = remeasure.remeasure(timed, "s")
    assert "others ran" in line and "demo-qlora" in line
    assert left(timed) == [True, False, True, True]
    assert all(Path(node.manifest).exists() for node in others)
    assert tables.is_stale(plan)
    assert remeasure.remeasure(timed, "s") == []


def test_all_timings_may_be_removed(timed):
    assert len(remeasure.remeasure(timed, "s", every=True)) == 4
    assert left(timed) == [False] * 4


def test_a_damaged_manifest_is_no_undisturbed_timing(timed):
    node = timed.plans("s")[0].efficiency
    Path(node.manifest).write_text("{")
    assert any("cannot be read" in line for line in remeasure.remeasure(timed, "s"))
    assert not node.path.exists()


def test_under_a_live_run_nothing_is_removed(timed):
    LIVE.parent.mkdir()
    with open(LIVE, "a+") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        with pytest.raises(PrunegridError, match="a run is under way"):
            remeasure.remeasure(timed, "s", every=True)
    assert left(timed) == [True] * 4


def test_the_command_says_how_to_measure_again(timed, monkeypatch, capsys):
    monkeypatch.setattr(options_of, "graph", lambda options: timed)
    options = ["--configfile", "a.yaml", "b.yaml", "--config", "seed=1"]
    assert cli.main(["remeasure", "s", *options]) == 0
    said = capsys.readouterr().out
    assert "s: 1 of 4 timings removed" in said
    wanted = "prunegrid run s -c a.yaml b.yaml --config seed=1"
    assert wanted in said
    assert cli.main(["remeasure", "s"]) == 0
    assert capsys.readouterr().out == "s: 0 of 4 timings removed\n"


def test_a_contrast_cannot_name_a_speed():
    """Two cells were timed in two processes, so nothing pairs them."""
    sides = {"a": {"prune": "wiki-wanda-50", "finetune": "none"}}
    sides["b"] = {"prune": "dense", "finetune": "none"}
    entry = {"name": "c", **sides, "split": "speed", "metric": "decode_speed_vs_dense"}
    with pytest.raises(ConfigError) as caught:
        graph(contrasts=[entry])
    assert any("'speed', which is not evaluated" in fault for fault in caught.value.faults)
