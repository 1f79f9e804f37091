"""Studies of kind census in the config: what they may be made of, and what they cannot count."""

import copy

import pytest

from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from prunegrid.config.studies import DECADES
from prunegrid.graph.artifact_graph import Graph
from tests.helpers import ROOT, shipped

SMALL = {"kind": "census", "grid": {"model": ["smollm2-135m", "minilm"]}}


@pytest.fixture
def raw():
    tree = shipped.config()
    tree["studies"] = {"c": copy.deepcopy(SMALL)}
    tree["models"]["mute"] = {"source": "hf:a/b", "task": "seq2seq-lm", "tokenizer": False}
    return tree


def check(raw):
    return validate(raw, shipped.FILES, ROOT)


def only_fault(raw, *words):
    with pytest.raises(ConfigError) as caught:
        check(raw)
    (fault,) = caught.value.faults
    assert all(word in fault for word in words), fault


def test_a_census_needs_a_grid_of_models_and_nothing_else(raw):
    config = check(raw)
    study = config.profile("studies", "c")
    assert (study.edges, study.zeros, study.embeddings) == (DECADES, "apart", True)
    plans = Graph(config, ROOT).plans("c")
    assert [plan.cell.model for plan in plans] == ["smollm2-135m", "minilm"]
    for plan in plans:
        assert plan.leaves() == [plan.census] and plan.data is None
        assert plan.census.parents == {"weights": plan.chain[-1]}


def test_how_a_census_is_shown_makes_no_other_counts(raw):
    raw["studies"]["d"] = {**SMALL, "zeros": "within", "embeddings": False}
    raw["studies"]["e"] = {**SMALL, "edges": [0.5]}
    graph = Graph(check(raw), ROOT)
    keys = {name: {plan.census.key for plan in graph.plans(name)} for name in "cde"}
    assert keys["c"] == keys["d"] and not keys["c"] & keys["e"]


def test_the_settings_of_the_original_share_the_counts_of_the_corrected():
    graph = Graph(check(shipped.config()), ROOT)
    counted = [{p.census.key for p in graph.plans(name)} for name in ("census", "census-legacy")]
    assert counted[0] == counted[1] and len(counted[0]) == 3
    tasks = {plan.chain[0].settings["task"] for plan in graph.plans("census")}
    assert tasks == {"causal-lm", "encoder", "seq2seq-lm"}


def test_a_pruned_cell_is_counted_from_its_own_weights(raw):
    raw["studies"]["c"]["grid"] = {"model": "smollm2-135m", "prune": ["dense", "wiki-wanda-2of4"]}
    dense, pruned = Graph(check(raw), ROOT).plans("c")
    assert [node.stage for node in pruned.chain] == ["model", "prune"]
    assert dense.census.key != pruned.census.key
    assert pruned.census.settings == dense.census.settings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"edges": [0.1, 0.1]}, ["studies.c.edges", "above the one before"]),
        ({"edges": [0.0, 0.1]}, ["studies.c.edges", "above 0"]),
        ({"edges": []}, ["studies.c.edges", "at least 1"]),
        ({"edges": [1e400]}, ["studies.c.edges"]),
        ({"zero": "apart"}, ["studies.c.zero", "did you mean 'zeros'"]),
        ({"zeros": "gone"}, ["studies.c.zeros", "'gone'", "'apart'"]),
        ({"kind": "cencus"}, ["studies.c.kind", "'cencus'", "'census'"]),
        ({"evaluations": ["papers"]}, ["studies.c.evaluations", "is not a key here"]),
        ({"grid": {"model": "minilmm"}}, ["studies.c.grid", "did you mean 'minilm'"]),
        (
            {"grid": {"model": "smollm2-135m", "finetune": "nf4"}},
            ["studies.c.grid", "nf4", "counts plain weights"],
        ),
        (
            {"grid": {"model": "smollm2-135m", "finetune": "demo-full"}},
            ["studies.c.grid", "demo-full", "no data set"],
        ),
        (
            {"grid": {"model": "mute", "prune": "wiki-wanda-50"}},
            ["studies.c.grid", "wiki-wanda-50", "mute", "no tokenizer"],
        ),
    ],
)
def test_faults(raw, change, words):
    raw["studies"]["c"] |= change
    if "kind" in change:  # a study of evaluations then, which lacks what those need
        raw["studies"]["c"] |= {"dataset": "aclsum", "evaluations": ["papers"]}
        raw["studies"]["c"]["grid"] = {"model": "smollm2-135m"}
    only_fault(raw, *words)


def test_tuned_cells_are_counted_where_the_study_names_their_data(raw):
    grid = {"model": "smollm2-135m", "prune": "magnitude-50", "finetune": ["none", "demo-full"]}
    raw["studies"]["c"] |= {"dataset": "aclsum", "grid": grid}
    plans = Graph(check(raw), ROOT).plans("c")
    assert [plan.chain[-1].stage for plan in plans] == ["prune", "finetune"]


def test_only_a_census_takes_a_model_without_a_tokenizer(raw):
    raw["models"]["bare"] = {"source": "hf:a/b", "tokenizer": False}
    raw["studies"]["s"] = {
        "dataset": "wikipedia",
        "grid": {"model": "bare"},
        "evaluations": ["wikipedia-512"],
    }
    only_fault(raw, "studies.s.grid", "'bare'", "no tokenizer")
    raw["studies"]["s"]["grid"] = {"model": "smollm2-135m"}
    raw["metrics"]["bertscore"]["model"] = "bare"
    only_fault(raw, "metrics.bertscore.model", "'bare'", "no tokenizer")
