"""Evaluations against the dense model: their faults, and which artifacts they ask for."""

import copy

import pytest

from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from tests.helpers import ROOT, shipped
from tests.helpers.shipped import changed, check, faults

APART = {"kind": "against_dense", "windows": "wikipedia-128", "tasks": ["piqa"]}
GRID = {"model": "smollm2-135m", "prune": ["dense", "wiki-wanda-50"], "finetune": ["none", "full"]}


@pytest.fixture(scope="module")
def whole():
    return shipped.config()


@pytest.fixture
def raw(whole):
    tree = copy.deepcopy(whole)
    tree["evaluations"]["apart"] = copy.deepcopy(APART)
    study = {"dataset": "aclsum", "grid": GRID, "evaluations": ["apart"]}
    tree["studies"] = {"s": study}
    return tree


def told(raw):
    return "\n".join(faults(raw))


def test_it_is_accepted_whole_and_in_parts(raw):
    check(raw)
    check(changed(raw, "evaluations", "apart", "tasks", []))
    check(changed(raw, "evaluations", "apart", "windows", None))


FREE = {"output_type": "generate_until", "doc_to_text": "{{goal}}"}
FREE["metric_list"] = [{"metric": "acc"}]
OWN = {"define": FREE, "dataset": "piqa", "split": "validation"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("apart", "windows", "wikipedia"), ["evaluations.apart.windows", "did you mean"]),
        (
            ("apart", "windows", "papers"),
            ["apart.windows is 'papers', of kind texts", "perplexity"],
        ),
        (("apart", "tasks", ["pica"]), ["evaluations.apart.tasks is 'pica'", "'piqa'"]),
        (("apart", "tasks", ["piqa", "piqa"]), ["`tasks` names one twice"]),
        (("apart", "windws", "x"), ["evaluations.apart.windws", "did you mean 'windows'"]),
        (("apart", {"kind": "against_dense"}), ["names neither `windows`"]),
    ],
)
def test_faults_of_its_keys_are_told(raw, change, words):
    text = told(changed(raw, "evaluations", *change))
    assert all(word in text for word in words), text


@pytest.mark.parametrize("task", [{**OWN}, {"task": "piqa", **OWN, "metrics": ["exact_match"]}])
def test_a_task_without_options_is_told(raw, task):
    task = dict(task)
    if "task" in task:
        del task["define"]
    raw["tasks"]["free"] = task
    text = told(changed(raw, "evaluations", "apart", "tasks", ["piqa", "free"]))
    assert "evaluations.apart.tasks.1" in text
    assert "'free'" in text and "multiple_choice" in text


def test_models_that_are_not_causal_are_told(raw):
    config = {"model_type": "bert"}
    raw["models"]["reader"] = {"source": "random:", "config": config, "task": "encoder"}
    raw["studies"]["s"]["grid"] = {"model": "reader", "prune": "dense", "finetune": "none"}
    text = told(raw)
    assert "'apart', of kind against_dense, which asks models of the task causal-lm" in text


def test_a_contrast_by_what_has_no_direction_is_told(raw):
    side = {"model": "smollm2-135m", "finetune": "none"}
    contrast = {"name": "c", "split": "apart_piqa", "metric": "flips_wrong_right"}
    contrast |= {"a": {**side, "prune": "wiki-wanda-50"}, "b": {**side, "prune": "dense"}}
    raw["studies"]["s"]["contrasts"] = [contrast]
    assert "neither more nor less is better" in told(raw)
    contrast["metric"] = "recognised_not_produced"
    check(raw)


def plans(raw):
    found = Graph(validate(raw, shipped.FILES, ROOT), ROOT).plans("s")
    return {(plan.cell.names("prune"), plan.cell.names("finetune")): plan for plan in found}


def test_dense_is_the_chains_first_node_and_is_asked_once(raw):
    raw["evaluations"]["asked"] = {"kind": "tasks", "tasks": ["piqa"]}
    raw["studies"]["s"]["evaluations"] = ["asked", "apart"]
    found = plans(raw)
    dense = found.pop(("dense", "none"))
    text, answers = dense.tasks["apart"].node, dense.tasks["apart_piqa"].node
    assert "dense" not in text.parents and "dense" not in answers.parents
    assert answers.parents["answers"] is dense.tasks["piqa"].node
    assert len(found) == 3
    for plan in found.values():
        text, answers = plan.tasks["apart"].node, plan.tasks["apart_piqa"].node
        assert text.parents["dense"] is plan.chain[0] is not text.parents["weights"]
        assert answers.parents["weights"] is text.parents["weights"] is plan.chain[-1]
        assert answers.parents["answers"] is plan.tasks["piqa"].node
        assert answers.parents["dense"] is dense.tasks["piqa"].node


def test_windows_and_tasks_have_keys_of_their_own(raw):
    before = plans(raw)["wiki-wanda-50", "none"].tasks
    more = changed(raw, "evaluations", "apart", "batch_size", 4)
    after = plans(more)["wiki-wanda-50", "none"].tasks
    assert after["apart"].node.key == before["apart"].node.key
    assert after["apart_piqa"].node.key != before["apart_piqa"].node.key
    window = changed(raw, "evaluations", "wikipedia-128", "window", 64)
    after = plans(window)["wiki-wanda-50", "none"].tasks
    assert after["apart"].node.key != before["apart"].node.key
    assert after["apart_piqa"].node.key == before["apart_piqa"].node.key
