"""Tasks and mixtures in the config; their rows in the tables; what reruns for them."""

import pandas
import pytest

from prunegrid.common.file_io import write_json
from prunegrid.config import mixtures
from prunegrid.graph.artifact_graph import Graph
from prunegrid.tables import benchmarks
from prunegrid.tables.contrasts import contrast_rows
from prunegrid.tables.groups import collect, pair_rows
from prunegrid.tables.schema import LONG
from prunegrid.tables.table_plan import study_plan
from tests.helpers import shipped
from tests.helpers.shipped import ROOT, changed, check, faults


@pytest.fixture(scope="module")
def raw():
    return shipped.config()


PARTS = ("datasets", "multitask", "mixture", "parts", "siqa")
LISTED = ("tasks", "papers-outcome", "define", "metric_list")
TUNED = {"model": "gpt2", "finetune": "multitask-full"}
UNSHOWN = {"name": "x", "a": TUNED, "b": {**TUNED, "finetune": "none"}, "split": "piqa"}


@pytest.mark.parametrize(
    ("path_and_value", "words"),
    [
        (("tasks", "piqa", "split", "test"), ["tasks.piqa.split", "no split of 'piqa'"]),
        (("tasks", "piqa", "datset", "piqa"), ["tasks.piqa.datset", "did you mean 'dataset'"]),
        (("tasks", "piqa", "dataset", "pica"), ["tasks.piqa.dataset", "did you mean 'piqa'"]),
        (("tasks", "piqa", "dataset", "aclsum"), ["tasks read kind rows or cloze"]),
        (("tasks", "piqa", "shots", 5), ["`shots` need `shots_from`"]),
        (("tasks", "piqa", "define", {"doc_to_text": "x"}), ["lacks output_type"]),
        (
            ("tasks", "papers-outcome", "define", "dataset_path", "x"),
            ["tasks.papers-outcome", "['dataset_path'], which other keys say"],
        ),
        (("tasks", "papers-outcome", "define", "include", "x"), ["['include']"]),
        (("tasks", "papers-outcome", "define", "use_prompt", "x.yaml:y"), ["['use_prompt']"]),
        ((*LISTED, [{"metric": "/x/mine.py"}]), ["names '/x/mine.py', no metric"]),
        ((*LISTED, [{"metric": "acc_nrm"}]), ["did you mean 'acc_norm'"]),
        ((*LISTED, [{"metric": "acc", "hf_evaluate": True}]), ["`hf_evaluate`", "remove it"]),
        ((*LISTED, ["acc"]), ["`define.metric_list` is to be a list of"]),
        ((*LISTED, [{"metric": ["acc"]}]), ["`define.metric_list` is to be a list of"]),
        (
            ("evaluations", "benchmarks", "tasks", ["piqa", "pica"]),
            ["evaluations.benchmarks.tasks is 'pica'", "did you mean 'piqa'"],
        ),
        (
            ("evaluations", "benchmarks", "means", "glue", "metric", "f1"),
            ["evaluations.benchmarks.means.glue wants f1 of 'mnli'"],
        ),
        (
            ("evaluations", "benchmarks", "means", "glue", "tusks", []),
            ["means.glue.tusks", "did you mean 'tasks'"],
        ),
        (
            ("evaluations", "benchmarks", "means", "rte", {"tasks": ["mnli", "qnli"]}),
            ["means.rte has the name of a task"],
        ),
        ((*PARTS, "wieght", 1.0), ["mixture.parts.siqa.wieght", "did you mean 'weight'"]),
        ((*PARTS, "weight", None), ["weight is missing in ['siqa']"]),
        ((*PARTS, "split", "tran"), ["parts.siqa.split", "did you mean 'train'"]),
        ((*PARTS, "dataset", "wikipedia"), ["a data set of kind rows or summaries"]),
        (("datasets", "multitask", "mixture", "disjoint_from", ["bills"]), ["of kind texts"]),
        (("datasets", "multitask", "prompt", "x"), ["does not use ['prompt']"]),
        (("datasets", "siqa", "columns", {}), ["whose `columns` lack `text`"]),
        (("datasets", "siqa", "columns", {"summary": "x"}), ["kind rows keeps all columns"]),
        (("datasets", "siqa", "source", None), ["give `source` or `mixture`"]),
        (("evaluations", "wikitext-103", "dataset", "piqa"), ["of kind rows, which only tasks"]),
        (("studies", "multitask", "dataset", "piqa"), ["cannot learn 'piqa', of kind rows"]),
        (
            ("studies", "multitask", "contrasts", [{**UNSHOWN, "metric": "f1"}]),
            ["is 'f1', which is not measured"],
        ),
    ],
)  # fmt: skip
def test_one_fault_is_told_with_its_place_and_remedy(raw, path_and_value, words):
    text = "\n".join(faults(changed(raw, *path_and_value)))
    for word in words:
        assert word in text, text


def test_a_mixture_is_checked_against_all_that_a_study_evaluates(raw):
    broken = changed(raw, "datasets", "multitask", "mixture", "disjoint_from", ["benchmarks"])
    (found,) = faults(broken)
    assert "studies.multitask.evaluations (wikitext-103)" in found
    assert "add 'wikitext-103' to its `disjoint_from`" in found


def test_a_mixture_learns_no_evaluated_split(raw):
    broken = changed(
        raw, "datasets", "multitask", "mixture", "parts", "piqa", "split", "validation"
    )
    (found,) = faults(broken)
    assert "'validation' of 'piqa'" in found and "mixture" in found


def test_which_evaluated_tasks_a_cell_was_tuned_on(raw):
    config = check(raw)
    tuned = mixtures.tuned_on(config, "multitask", ["benchmarks", "wikitext-103"])
    assert tuned == ["piqa", "openbookqa"]
    assert mixtures.tuned_on(config, "wikitext-103", ["benchmarks"]) == []
    same = changed(raw, "datasets", "other", {**raw["datasets"]["piqa"]})
    same["datasets"]["multitask"]["mixture"]["parts"]["piqa"]["dataset"] = "other"
    assert "piqa" in mixtures.tuned_on(check(same), "multitask", ["benchmarks"])


def test_a_head_on_other_rows_of_what_was_learned_is_marked_where_it_is_asked(raw):
    raw = changed(raw, "models", "small", {**raw["models"]["minilm"], "task": "masked-lm"})
    study = raw["studies"]["multitask-smollm2"]
    study["evaluations"] += ["papers-roles", "mrpc-head"]
    raw["datasets"]["multitask-papers"]["mixture"]["disjoint_from"] += ["papers-roles", "mrpc-head"]
    study["grid"] = [study["grid"], {"model": "small", "finetune": ["none", "papers-full"]}]
    study["contrasts"] = []
    raw["studies"] = {"s": study}
    marks = {
        (cell["columns"]["model"], cell["columns"]["tuned_on_tasks"])
        for cell in study_plan(Graph(check(raw), ROOT), "s", ROOT)["cells"]
        if cell["columns"]["finetune"] != "none"
    }
    assert marks == {("smollm2-135m", "papers-outcome+papers-approach"), ("small", "papers-roles")}


def test_local_files_take_the_hubs_place(raw, tmp_path):
    (tmp_path / "asked.jsonl").write_text('{"goal": "g", "sol1": "a", "sol2": "b", "label": 0}\n')
    local = changed(raw, "datasets", "piqa", "source", str(tmp_path))
    local["datasets"]["piqa"]["files"] = {"validation": "asked.jsonl"}
    graph, before = Graph(check(local), ROOT), Graph(check(raw), ROOT)
    (plan, *_), (hub, *_) = graph.plans("multitask"), before.plans("multitask")
    asked, before = plan.tasks["piqa"].node, hub.tasks["piqa"].node
    source = asked.parents["data.0"].settings
    assert source["source"]["kind"] == "local" and source["splits"] == {"validation": "validation"}
    assert asked.key != before.key
    assert asked.parents["data.1"].key == before.parents["data.1"].key


def test_what_the_benchmarks_of_an_evaluation_depend_on(raw):
    """Their own settings and the version of the harness; not other evaluations, nor means."""
    raw["evaluations"]["more"] = {"kind": "tasks", "tasks": ["papers-outcome"]}
    raw["studies"]["multitask"]["evaluations"] = ["benchmarks", "more"]
    raw["datasets"]["multitask"]["mixture"]["disjoint_from"] = ["benchmarks", "more"]

    def keys(tree):
        (plan, *_) = Graph(check(tree), ROOT).plans("multitask")
        return {name: part.node.key for name, part in plan.tasks.items()}

    before = keys(raw)
    assert len(before) == 13 and len(set(before.values())) == 2
    assert before["piqa"] == before["mmlu"] != before["papers-outcome"]
    shots = changed(raw, "tasks", "mmlu", "shots", 5)
    shots["tasks"]["mmlu"]["shots_from"] = "dev"
    assert keys(shots)["piqa"] != before["piqa"]
    assert keys(shots)["papers-outcome"] == before["papers-outcome"]
    assert keys(changed(raw, "evaluations", "benchmarks", "means", {})) == before
    larger = keys(changed(raw, "evaluations", "benchmarks", "batch_size", 16))
    assert {name for name in before if larger[name] == before[name]} == {"papers-outcome"}
    (plan, *_) = Graph(check(raw), ROOT).plans("multitask")
    assert plan.tasks["piqa"].node.pins["lm-eval"] == "0.4.13"
    assert [plan.tasks[name].folder for name in ("piqa", "wnli")] == ["0-piqa", "11-wnli"]


class World:
    """Artifacts of tasks, and a plan over them."""

    def __init__(self, folder):
        self.folder = folder
        mean = {"tasks": ["long", "short"], "metric": "acc"}
        self.plan = {"study": "s", "bootstrap_seed": 0, "means": {"both": mean}, "cells": []}
        self.rows = []

    def task(self, cell, name, values, **changes):
        place = self.folder / f"{cell}-{name}"
        place.mkdir()
        ids = [f"{name}:{i}" for i in range(len(values))]
        frame = {"metric": ["acc"] * len(values), "id": ids, "value": values}
        pandas.DataFrame(frame).to_parquet(place / "scores.parquet")
        share = sum(values) / len(values)
        summary = {"mean": share, "stderr": 0.05, "n": len(values), "higher_is_better": True}
        summary |= {"items": True, "chance": 0.5, "majority": None}
        record = {"task": name, "version": "1.0", "harness": "lm-eval 0.4.13", "shots": 0}
        record |= {"summary": {"acc": summary}, "items_sha256": f"asked {name}"} | changes
        write_json(place / "manifest.json", {"record": record})
        return {"path": str(place), "folder": ""}, record

    def cell(self, name, **values):
        made = {task: self.task(name, task, scores) for task, scores in values.items()}
        refs = {task: ref for task, (ref, _) in made.items()}
        self.plan["cells"].append({"texts": {}, "perplexities": {}, "tasks": refs})
        row = {"status": "ok", "model": "m", "dataset": "d", "prune": name, "finetune": "none"}
        row |= {"seed": None}
        self.rows.append(row)
        records = {task: record for task, (_, record) in made.items()}
        return benchmarks.task_rows(self.plan, {"name": name}, refs, records)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_rows_say_version_shots_error_and_chance(world):
    rows = world.cell("a", long=[1.0, 0.0] * 40 + [1.0] * 80, short=[0.0, 1.0] * 4)
    long, short, both = rows
    assert (long["split"], long["metric"], long["n"]) == ("long", "acc", 160)
    assert (long["task_version"], long["harness"], long["shots"]) == ("1.0", "lm-eval 0.4.13", 0)
    assert long["low"] < 0.75 < long["high"] and long["at_chance"] is False
    assert short["value"] == 0.5 and short["at_chance"] is True
    assert both["split"] == "both" and both["value"] == pytest.approx((0.75 + 0.5) / 2)
    assert both["stderr"] == pytest.approx((2 * 0.05**2) ** 0.5 / 2)
    # Each task's items are drawn by themselves: variances add up, over the square of two tasks.
    error = (0.25 / 8 + 0.75 * 0.25 / 160) ** 0.5 / 2
    assert both["low"] == pytest.approx(0.625 - 1.96 * error, abs=0.015)
    assert both["high"] == pytest.approx(0.625 + 1.96 * error, abs=0.015)
    assert both["n"] == 168 and both["chance"] == 0.5


def test_no_interval_leaves_the_range_of_its_metric(world):
    """A symmetric interval of nearly perfect tasks, or of a rare F1, would."""
    _, short, both = world.cell("a", long=[1.0] * 29 + [0.0], short=[1.0] * 7 + [0.0])
    assert 0 <= both["low"] < both["value"] < both["high"] <= 1
    assert 0 <= short["low"] < short["high"] <= 1
    ref, record = world.task("b", "rare", [1.0])
    frame = pandas.DataFrame({"metric": ["acc"], "id": ["rare:0"], "value": [1.0]})
    frame.to_parquet(f"{ref['path']}/scores.parquet")
    whole = {**record["summary"]["acc"], "mean": 0.1, "stderr": 0.2, "items": False}
    record["summary"] = {"f1": whole | {"low": 0.0, "high": 0.4}, "mcc": whole}
    world.plan["means"] = {"both": {"tasks": ["rare", "rare"], "metric": "f1"}}
    f1, mcc, mean = benchmarks.task_rows(world.plan, {}, {"rare": ref}, {"rare": record})
    assert (f1["low"], f1["high"], f1["stderr"]) == (0.0, 0.4, 0.2)
    # None is told where none was computed: the error alone is no range.
    assert mcc["low"] is mcc["high"] is mean["low"] is mean["high"] is None


def test_cells_are_compared_item_by_item_and_a_mean_task_by_task(world):
    world.cell("a", long=[1.0] * 60 + [0.0] * 40, short=[1.0, 1.0, 0.0, 1.0])
    world.cell("b", long=[1.0] * 50 + [0.0] * 50, short=[1.0, 0.0, 0.0, 0.0])
    pairs = {row["split"]: row for row in pair_rows(world.plan, collect(world.plan, world.rows))}
    assert pairs["long"]["value"] == pytest.approx(0.1) and pairs["long"]["n"] == 100
    assert pairs["short"]["value"] == pytest.approx(0.5)
    assert pairs["both"]["value"] == pytest.approx((0.1 + 0.5) / 2)
    assert pairs["both"]["value_a"] == pytest.approx((0.6 + 0.75) / 2)
    assert pairs["long"]["low"] > 0  # ten items of a hundred differ, all the same way


def test_a_contrast_may_name_a_mean_over_tasks(world):
    long = world.cell("a", long=[1.0] * 90 + [0.0] * 10, short=[1.0] * 30 + [0.0] * 4)
    long += world.cell("b", long=[1.0] * 70 + [0.0] * 30, short=[1.0] * 20 + [0.0] * 14)
    for row in long:
        row |= {"model": "m", "dataset": "d", "prune": row["name"], "finetune": "none"}
    for cell, row in zip(world.plan["cells"], world.rows, strict=True):
        cell["columns"] = {key: row[key] for key in ("model", "dataset", "prune", "finetune")}
    entry = {"name": "x", "a": {"prune": "a"}, "b": {"prune": "b"}, "split": "both"}
    world.plan["contrasts"] = [{**entry, "metric": "acc", "margin": None}]
    tall = pandas.DataFrame(long, columns=[c.name for c in LONG])
    (row,) = contrast_rows(world.plan, world.rows, tall)
    assert row["reason"] is None and row["verdict"] == "better" and row["n"] == 134
    assert row["value"] == pytest.approx((0.2 + 10 / 34) / 2)


def test_other_questions_are_never_compared(world):
    world.cell("a", long=[1.0, 0.0])
    ref, _ = world.task("b", "long", [0.0, 1.0], items_sha256="others")
    world.plan["cells"].append({"texts": {}, "perplexities": {}, "tasks": {"long": ref}})
    world.rows.append({**world.rows[0], "prune": "b"})
    assert pair_rows(world.plan, collect(world.plan, world.rows)) == []
