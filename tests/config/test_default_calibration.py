"""The calibration that a study of a user's own text gives to pruning steps that name none."""

from __future__ import annotations

import json

import pytest

from prunegrid.commands import plan
from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from tests.helpers import ROOT, shipped

OWN = {"kind": "text", "columns": {"text": "text"}, "splits": {"train": "all[:50%]"}}


@pytest.fixture(autouse=True)
def notes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"text": "words and more words " * 40}) for _ in range(20)]
    (tmp_path / "notes.jsonl").write_text("\n".join(rows) + "\n")


def raw(dataset="own", prune=None, **changes):
    tree = shipped.config()
    tree["datasets"]["own"] = {"source": "notes.jsonl"} | OWN | changes
    tree["prune"]["bare"] = prune or {"method": "wanda", "pattern": "2:4"}
    grid = {"model": "smollm2-135m", "prune": ["dense", "bare"]}
    tree["studies"]["s"] = {"dataset": dataset, "grid": grid, "evaluations": ["wikipedia-512"]}
    return tree


def test_it_is_drawn_from_the_study_s_own_text_and_the_plan_says_so(tmp_path):
    graph = Graph(validate(raw(), shipped.FILES, tmp_path), ROOT)
    dense, pruned = graph.plans("s")
    drawn = pruned.chain[-1].parents["calibration"]
    assert drawn.parents["data"] is graph.data("own")
    assert drawn.settings["split"] == "train" and drawn.settings["join"]
    assert pruned.cell.acting[0].profile.calibration == "own-train-default"
    assert pruned.cell.seed == 0 and dense.cell.seed is None
    (told,) = plan.plan(graph, "s", tmp_path).calibrations
    assert "own-train-default" in told and "128 samples of 256 tokens" in told


def test_a_named_calibration_of_the_same_settings_is_the_same_step(tmp_path):
    tree = raw()
    tree["calibration"]["mine"] = {
        "dataset": "own", "split": "train", "samples": 128, "length": 256, "join": True
    }  # fmt: skip
    tree["prune"]["bare"]["calibration"] = "mine"
    named = Graph(validate(tree, shipped.FILES, tmp_path), ROOT).plans("s")[1].chain[-1]
    bare = Graph(validate(raw(), shipped.FILES, tmp_path), ROOT).plans("s")[1].chain[-1]
    assert named.key == bare.key


def test_a_step_that_needs_no_samples_has_none(tmp_path):
    tree = raw(prune={"method": "magnitude", "pattern": "2:4"})
    graph = Graph(validate(tree, shipped.FILES, tmp_path), ROOT)
    assert set(graph.plans("s")[1].chain[-1].parents) == {"weights"}


def test_a_text_that_is_too_short_for_it_matters_only_where_it_is_used(tmp_path):
    (tmp_path / "notes.jsonl").write_text('{"text": "few words"}\n')
    with pytest.raises(ConfigError) as caught:
        validate(raw(), shipped.FILES, tmp_path)
    (fault,) = caught.value.faults
    assert "studies.s" in fault and "own-train-default" in fault and "256 tokens" in fault
    tree = raw(prune={"method": "magnitude", "pattern": "2:4"})
    assert validate(tree, shipped.FILES, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"dataset": "aclsum"}, {"splits": {"test": "all"}}],
    ids=["another data set", "no split to learn from"],
)
def test_elsewhere_the_study_has_the_fault(tmp_path, changes):
    with pytest.raises(ConfigError) as caught:
        validate(raw(**changes), shipped.FILES, tmp_path)
    (fault,) = caught.value.faults
    place = "studies.s.grid" if "dataset" in changes else "prune.bare.calibration"
    assert place in fault and "calibration" in fault
