"""Which benchmarks one job asks."""

import pytest
import shipped
from study_world import ROOT, make

from prunegrid.commands import plan
from prunegrid.common.file_io import write_json
from prunegrid.config.load import validate
from prunegrid.graph import benchmark_batches
from prunegrid.graph.artifact_graph import Graph

TASKS = {"a": ["piqa", "openbookqa"], "b": ["openbookqa", "siqa"], "c": ["hellaswag", "piqa"]}


@pytest.fixture(autouse=True)
def graph(tmp_path, monkeypatch):
    """Three studies of two cells each over one model; their tasks overlap."""
    monkeypatch.chdir(tmp_path)
    raw = shipped.config()
    raw["tasks"]["siqa"] = {**raw["tasks"]["piqa"], "rows": 7}
    raw["tasks"]["siqa"]["task"] = "piqa"
    grid = {"model": "smollm2-135m", "prune": ["dense", "wiki-wanda-50"], "finetune": "none"}
    raw["evaluations"] |= {name: {"kind": "tasks", "tasks": tasks} for name, tasks in TASKS.items()}
    raw["studies"] = {
        name: {"dataset": "aclsum", "grid": grid, "evaluations": [name]} for name in TASKS
    }
    return Graph(validate(raw, shipped.FILES, ROOT), ROOT)


def node(graph, study, task, cell=0):
    return graph.plans(study)[cell].tasks[task]


def test_the_first_task_of_each_model_leads_the_others(graph):
    found = benchmark_batches.leaves(graph, "a", ["a"])
    assert found == [node(graph, "a", "piqa", 0), node(graph, "a", "piqa", 1)]
    for cell in (0, 1):
        first, second = (node(graph, "a", task, cell) for task in TASKS["a"])
        assert benchmark_batches.others(graph, first, ["a"]) == [second]
        assert benchmark_batches.others(graph, second, ["a"]) == []


def test_each_missing_task_is_asked_by_one_job(graph):
    """Whatever studies are asked for, in whatever order, as they come one by one."""
    for studies in (["a", "b", "c"], ["c", "b", "a"], ["b", "a"], ["c"]):
        asked = []
        for count, study in enumerate(studies, 1):
            leaders = benchmark_batches.leaves(graph, study, studies[:count])
            for leader in leaders:
                if leader not in asked:
                    led = benchmark_batches.others(graph, leader, studies[:count])
                    assert led == benchmark_batches.others(graph, leader, studies), (
                        "it changed later"
                    )
                    assert not {leader, *led} & set(asked)
                    asked += [leader, *led]
        wanted = {leaf for study in studies for leaf in graph.study_leaves(study)}
        assert set(asked) == wanted


def test_a_leader_that_is_made_meanwhile_leads_the_same(graph):
    first, second = (node(graph, "a", task) for task in TASKS["a"])
    make_with_parents(first)
    assert benchmark_batches.others(graph, first, ["a"]) == [second]
    assert benchmark_batches.leaves(graph, "a", ["a"])[:2] == [first, second]


def test_those_that_are_led_are_told(graph):
    second = [node(graph, "a", "openbookqa", cell) for cell in (0, 1)]
    assert benchmark_batches.led(graph, "a", ["a"]) == second
    assert set(benchmark_batches.led(graph, "b", ["a", "b"])) == set(second)


def test_data_that_could_not_be_had_keep_no_other_task_from_being_asked(graph):
    first, second = (node(graph, "a", task) for task in TASKS["a"])
    data = first.parents["data"]
    assert benchmark_batches.troubled(graph, "a") == []
    write_json(data.status, {"state": "failed", "reason": "no such hub"})
    assert benchmark_batches.troubled(graph, "a") == [data.key]
    asked = (["a", "b"], [data.key])
    assert benchmark_batches.leaves(graph, "a", *asked)[:2] == [first, second]
    assert benchmark_batches.others(graph, first, *asked) == []
    assert benchmark_batches.others(graph, second, *asked) == []
    assert benchmark_batches.others(graph, node(graph, "b", "siqa"), *asked) == []
    make_with_parents(first)
    assert benchmark_batches.troubled(graph, "a") == []


def test_what_is_made_meanwhile_changes_no_leader(graph):
    first, second = (node(graph, "a", task) for task in TASKS["a"])
    third = node(graph, "b", "siqa")
    make_with_parents(second)
    assert benchmark_batches.others(graph, first, ["a", "b"]) == []
    assert benchmark_batches.leaves(graph, "b", ["a", "b"])[:2] == [second, third]
    assert benchmark_batches.others(graph, third, ["a", "b"]) == []
    make_with_parents(first)
    assert benchmark_batches.leaves(graph, "a", ["a"])[:2] == [first, second], (
        "what is there is looked at"
    )


def test_a_task_that_is_asked_for_by_its_file_alone_is_asked_alone(graph):
    assert benchmark_batches.others(graph, node(graph, "a", "piqa"), []) == []


def test_a_plan_counts_jobs_and_the_time_of_all_tasks(graph, tmp_path):
    rule = plan.plan(graph, "a", tmp_path / "results").rules["tasks"]
    assert rule.jobs == 2 and sum(rule.bases.values()) == 4
    make_with_parents(node(graph, "a", "piqa"))
    later = plan.plan(graph, "a", tmp_path / "results").rules["tasks"]
    assert (later.jobs, later.done) == (2, 1) and later.seconds < rule.seconds


def make_with_parents(one):
    for parent in one.parents.values():
        if not parent.path.exists():
            make(parent)
    make(one)
