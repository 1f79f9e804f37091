"""Data sets of probes in the config: their sources, their kinds, and what must not learn them."""

import pytest

from prunegrid.graph.artifact_graph import Graph
from tests.helpers import ROOT, shipped
from tests.helpers.shipped import changed, check, faults


@pytest.fixture(scope="module")
def raw():
    tree = shipped.config()
    grid = {"model": "smollm2-135m", "prune": ["dense", "wiki-wanda-50"]}
    study = {"dataset": "wikipedia", "grid": grid, "evaluations": ["probes"]}
    return tree | {"studies": {"s": study}, "claims": {}}


def test_the_shipped_probes_are_made_without_a_hub(raw):
    graph = Graph(check(raw), ROOT)
    stages = {}
    for plan in graph.plans("s"):
        for name, part in plan.tasks.items():
            parents = part.node.parents.values()
            (data,) = (node for node in parents if node.label.startswith(f"data {name} "))
            stages[name] = data.stage
            assert data.settings["source"]["kind"] != "hf"
    assert stages == {"sums": "probe", "brackets": "probe", "cloze": "cloze"}


def test_a_probe_counts_in_its_own_key_alone(raw):
    graph = Graph(check(raw), ROOT)
    sums, brackets = graph.part("sums", "test"), graph.part("brackets", "test")
    assert sums.key != brackets.key
    assert "prunegrid.data.probes.sums:items" in sums.roots
    assert not any("sums" in root for root in brackets.roots)


def test_passages_are_of_texts_that_nothing_learns(raw):
    calibrated = raw["datasets"]["wikipedia"]["splits"]["calibration"]
    assert raw["datasets"]["cloze"]["splits"] == {"test": "all[60%:]"}
    assert calibrated == "all[:60%]"
    (found,) = faults(changed(raw, "datasets", "cloze", "splits", {"test": "all[50%:]"}))
    assert "prune (wiki-wanda-50)" in found and "'probes' scores on" in found


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("sums", "source"), "probe:sum", ["datasets.sums.source", "did you mean 'sums'"]),
        (("sums", "kind"), "text", ["datasets.sums", "kind: rows"]),
        (("sums", "splits"), {"test": "train"}, ["has no 'train'"]),
        (("cloze", "columns"), {}, ["datasets.cloze", "columns lacks ['text']"]),
        (("cloze", "leaks"), "refuse", ["datasets.cloze", "set `leaks` there"]),
    ],
)
def test_faults_of_probes_are_told(raw, keys, value, words):
    found = "\n".join(faults(changed(raw, "datasets", *keys, value)))
    assert all(word in found for word in words), found


def test_a_model_is_no_probe(raw):
    (found,) = faults(changed(raw, "models", "smollm2-135m", {"source": "probe:sums"}))
    assert "models.smollm2-135m.source" in found and "datasets alone" in found


def test_nothing_is_calibrated_on_passages(raw):
    mine = {"dataset": "cloze", "split": "test", "samples": 4, "length": 64}
    (found,) = faults(changed(raw, "calibration", "mine", mine))
    assert "calibration.mine.dataset" in found and "kind cloze" in found
