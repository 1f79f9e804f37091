"""Plans: jobs by rule, and costs from finished steps or from the model's size."""

import json
import re
from dataclasses import replace

import pytest

from prunegrid.commands import adopt, cli
from prunegrid.commands import plan as planning
from prunegrid.config.config_files import read_files
from prunegrid.config.load import validate
from prunegrid.graph import nodes
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import with_ancestors
from prunegrid.graph.stage_facts import stage_facts, stages
from prunegrid.running import costs, history, resources
from prunegrid.running.costs import Step
from tests.helpers import shipped
from tests.helpers.study_world import ROOT, graph, make


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_plan_counts_the_jobs_that_would_run(tmp_path):
    made = graph()
    results = tmp_path / "results"
    found = planning.plan(made, "s", results)
    jobs = {name: rule.jobs for name, rule in found.rules.items()}
    assert jobs == {
        "download_model": 1,
        "download_data": 2,
        "calibrate": 1,
        "prune": 1,
        "finetune": 2,
        "perplexity": 4,
    }
    assert all(rule.bases == {"formula": rule.jobs} for rule in found.rules.values())
    text = "\n".join(planning.lines(found, "all"))
    assert "s: 4 cells, 11 jobs to run" in text
    assert "keep_weights: until_used would drop" in text
    for node in with_ancestors(made.study_leaves("s")):
        if node.stage != "perplexity":
            make(node)
    found = planning.plan(made, "s", results)
    assert {name: rule.jobs for name, rule in found.rules.items() if rule.jobs} == {"perplexity": 4}
    assert found.rules["finetune"].done == 2
    assert found.droppable == 0


def test_a_cell_is_few_jobs_of_its_own(tmp_path):
    """Chains that begin alike share their steps; the benchmarks of an evaluation are a job."""
    files = shipped.FILES
    whole = Graph(validate(read_files(files), files, ROOT), ROOT)
    shared = {"model", "data", "calibration", "rows", "mixture"}
    for study in whole.config.sections["studies"]:
        seen = set()
        for plan in whole.plans(study):
            own = {node for node in plan.nodes() if node.stage not in shared} - seen
            assert len(own) <= 8, (study, plan.cell)
            seen |= own


def test_a_model_without_a_known_size_is_told(tmp_path):
    raw = graph()
    node = raw.model("smollm2-135m")
    assert resources.likely_parameters(node) == 135 * 10**6  # by its name
    object.__setattr__(node, "label", "model mine")
    node.settings["source"] = {"kind": "local", "path": "/none"}
    assert resources.likely_parameters(node) is None
    found = planning.plan(raw, "s", tmp_path / "results")
    assert found.unknown == ["model mine"]
    assert "planned as 1 billion parameters: model mine" in "\n".join(planning.lines(found, "all"))


def test_the_plan_and_the_job_agree_on_a_model_without_a_known_size(tmp_path):
    raw = graph()
    node = raw.model("smollm2-135m")
    object.__setattr__(node, "label", "model mine")
    node.settings["source"] = {"kind": "local", "path": "/none"}
    rule = planning.plan(raw, "s", tmp_path / "results").rules["download_model"]
    assert int(rule.memory) == resources.memory_mb(node)


def test_a_told_size_is_planned_and_is_in_no_key(tmp_path):
    files = shipped.FILES
    tree = read_files(files)
    told = Graph(validate(tree, files, ROOT), ROOT)
    assert resources.likely_parameters(told.model("gpt2-xl")) == 1_560_000_000
    assert all(resources.likely_parameters(told.model(name)) is not None for name in tree["models"])
    for profile in tree["models"].values():
        profile.pop("parameters", None)
    untold = Graph(validate(tree, files, ROOT), ROOT)
    assert resources.likely_parameters(untold.model("gpt2-xl")) is None
    found, others = ([n.key for n in one.all_nodes()] for one in (told, untold))
    assert found == others


def test_finished_steps_tell_more_than_the_formula(tmp_path):
    made = graph()
    results = tmp_path / "results"
    for node in with_ancestors(made.study_leaves("s")):
        make(node, parameters=10**6, seconds=7.0)
    steps = history.read(results)
    assert len(steps) == 11
    one = next(s for s in steps if s.step.stage == "perplexity")
    knows = history.Experience(steps)
    same = knows.estimate(one.step)
    assert same.basis == "alike" and same.seconds == pytest.approx(7.0)
    twice = knows.estimate(replace(one.step, parameters=2 * 10**6))
    assert twice.seconds == pytest.approx(3.5 + 2 * 3.5)  # half of 7 s at most is a start
    tuned = next(s for s in steps if s.step.stage == "finetune")
    other = replace(tuned.step, settings={**tuned.step.settings, "strategy": "lora"})
    assert knows.estimate(other).basis == "stage"
    assert knows.estimate(replace(tuned.step, device="cuda")).basis == "formula"
    assert knows.estimate(tuned.step).disk == pytest.approx(tuned.disk, rel=1e-4)


@pytest.mark.parametrize(("stage", "scaled"), [("perplexity", 5 + 25), ("prune", 5 + 25)])
def test_seconds_are_scaled_to_little_more_than_was_seen(stage, scaled):
    """A start does not grow with the work, and toy studies say nothing of large models."""
    toy = Step(stage, STEPS[stage], 10**5, samples=128)
    seen = history.Finished("toy", toy, 10.0, 10**8, 10**6)
    knows = history.Experience([seen])
    five = knows.estimate(replace(toy, parameters=5 * 10**5))
    assert (five.seconds, five.basis) == (pytest.approx(scaled), "alike")
    for times in (31, 10**4, 10**6):
        large = replace(toy, parameters=times * 10**5)
        assert knows.estimate(large).basis == "formula"
        assert knows.estimate(large).seconds == costs.seconds(large)
    near = history.Finished("near", replace(toy, parameters=10**6), 60.0, 10**8, 10**6)
    found = history.Experience([seen, near]).estimate(replace(toy, parameters=2 * 10**7))
    assert found.basis == "alike"
    start = costs.start(toy)
    assert found.seconds == pytest.approx(start + (60 - start) * 20)


def test_benchmark_files_say_how_long_and_how_much(tmp_path):
    made = graph()
    node = made.model("smollm2-135m")
    make(node, parameters=10**6)
    place = tmp_path / "results/benchmarks/model"
    place.mkdir(parents=True)
    (place / f"{node.key}.tsv").write_text(
        "s\th:m:s\tmax_rss\n3.0\t0:00:03\t90\n5.5\t0:00:05\t2000\n"
    )
    (one,) = history.read(tmp_path / "results")
    assert (one.seconds, one.memory) == (5.5, 2000 * 2**20)


@pytest.mark.parametrize("nothing", ["NA", "-", "nan"])
def test_a_step_too_short_for_its_memory_to_be_seen_counts(tmp_path, nothing):
    node = graph().model("smollm2-135m")
    make(node, parameters=10**6)
    place = tmp_path / "results/benchmarks/model"
    place.mkdir(parents=True)
    (place / f"{node.key}.tsv").write_text(f"s\th:m:s\tmax_rss\n0.2\t0:00:00\t{nothing}\n")
    (one,) = history.read(tmp_path / "results")
    assert (one.seconds, one.memory) == (0.2, 10**8)


def test_a_manifest_of_any_form_is_left_out_of_plans(tmp_path):
    """One fact after another of another type, or gone: the others tell, and a plan is made."""
    made = graph(tunings=("none",))
    results, nodes = tmp_path / "results", with_ancestors(made.study_leaves("s"))
    for node in nodes:
        make(node)
    whole = {path: path.read_text() for path in results.glob("artifacts/*/*/manifest.json")}
    assert len(whole) == len(nodes)
    for fact in json.loads(next(iter(whole.values()))):
        for value in ([], {}, None, "x", 5, [1], {"a": []}):
            for path, text in whole.items():
                path.write_text(json.dumps(json.loads(text) | {fact: value}))
            planning.plan(made, "s", results)
            adopt.find(made, nodes, results)
            list(history.shortfalls(history.read(results)))
    for path in whole:
        path.write_text("[" * 100_000)
    assert history.read(results) == []
    assert planning.plan(made, "s", results).upgraded == []


def test_estimates_below_what_was_measured_are_told(tmp_path):
    made = graph()
    node = made.model("smollm2-135m")
    make(node, parameters=10**6)
    assert list(history.shortfalls(history.read(tmp_path / "results"))) == []
    make(node, parameters=10**6, peak_memory_bytes=10**10, seconds=10**5)
    steps = history.read(tmp_path / "results")
    assert [what for _, what, _, _ in history.shortfalls(steps)] == ["memory", "time"]
    count, memory, time = history.tightest(steps)["model"]
    assert count == 1 and memory > 1 and time > 1


STEPS = {
    "calibration": {"samples": 4, "length": 32},
    "prune": {"method": "wanda"},
    "finetune": {"strategy": "full", "token_budget": 1000},
    "transform": {"strategy": "quantize", "precision": "nf4"},
    "predictions": {"rows": 4, "max_new_tokens": 8, "prompt": {"max_words": 10}},
    "perplexity": {"window": 32, "max_windows": 4},
    "tasks": {"tasks": [{"rows": 10, "shots": 1}]},
    "efficiency": {
        "warmup": 1,
        "repetitions": 2,
        "batch_size": 1,
        "prompt_tokens": 8,
        "new_tokens": 4,
    },
    "census": {},
}


@pytest.mark.parametrize("stage", STEPS)
def test_costs_grow_with_the_model(stage):
    small, large = (Step(stage, STEPS[stage], n) for n in (10**8, 10**9))
    assert costs.work(large) == pytest.approx(10 * costs.work(small))
    assert costs.seconds(large) > costs.seconds(small) > costs.start(small)
    assert costs.disk_bytes(large) >= costs.disk_bytes(small)
    if stage in nodes.WEIGHTS_MADE:
        assert costs.disk_bytes(large) > 10**9


def test_what_is_learned_counts():
    base = {"strategy": "full", "batch_size": 2, "accumulate": 4, "window": 100}

    def tokens(**settings):
        step = Step("finetune", base | settings, 1, rows={"train": 50})
        return (costs.work(step) - costs.COUNTING) / 6

    assert tokens(token_budget=7000) == 7000
    assert tokens(token_budget=7000, learning_rates=[1, 2, 3]) == 21000
    assert tokens(max_steps=5) == 5 * 8 * 100
    assert tokens(epochs=3, split="train") == 3 * 50 * 100
    assert tokens(epochs=3, rows=4, split="train") == 3 * 4 * 100


def test_quantized_weights_take_less_disk():
    def size(**settings):
        return costs.disk_bytes(Step("finetune", settings, 10**9))

    assert size(strategy="qlora") < size(strategy="qlora", adapter="merged")
    assert size(strategy="full") == pytest.approx(4e9, rel=0.01)


def test_the_commands_speak_of_an_empty_store(capsys):
    assert cli.main(["plan", "demo"]) == 0
    told = capsys.readouterr().out
    assert "demo: 9 cells" in told
    assert [line.split()[0] for line in told.splitlines()[2:6]] == [
        "rule",
        "download_model",
        "download_data",
        "calibrate",
    ]
    assert cli.main(["gc", "--delete"]) == 0
    assert "0 folder(s)" in capsys.readouterr().out
    assert cli.main(["estimates"]) == 0
    assert "0 finished steps" in capsys.readouterr().out
    assert cli.main(["adopt", "demo", "--because", "read"]) == 0
    assert "0 artifact(s) adopted" in capsys.readouterr().out
    assert cli.main(["plan", "dmo"]) == 1
    assert "did you mean 'demo'" in capsys.readouterr().err


def test_estimates_that_are_too_low_fail_the_command(capsys):
    make(graph().model("smollm2-135m"), peak_memory_bytes=10**10)
    assert cli.main(["estimates"]) == 1
    told = capsys.readouterr().out
    assert "too little memory: model smollm2-135m" in told and "10,000" in told


def test_every_stage_is_planned_by_the_name_of_its_rule():
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    rules = set(re.findall(r"^use rule step as (\w+) with:", text, re.MULTILINE))
    assert {stage_facts(stage).rule for stage in stages()} <= rules


@pytest.mark.parametrize("study", ["architectures-small", "structured", "multitask"])
def test_studies_of_all_kinds_are_planned(study, tmp_path):
    files = shipped.FILES
    found = planning.plan(Graph(validate(read_files(files), files, ROOT), ROOT), study, tmp_path)
    assert all(rule.jobs and rule.seconds > 0 for rule in found.rules.values())


def test_the_cost_of_a_refit_by_part_grows_with_its_epochs():
    def work(**settings):
        refit = {"strategy": "reconstruct", **settings}
        return costs.work(Step("transform", refit, 2 * 10**8, samples=2**15))

    few, more = (work(grain="submodule", epochs=epochs) for epochs in (2, 4))
    # A training step has 6 operations a parameter and token; of the two models, one is trained.
    assert more - few == pytest.approx(6 * 2 * 10**8 * 2**15)
    assert work(grain="linear") > 0
