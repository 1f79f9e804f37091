"""The time that a run will take: one figure for all commands, near what was measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from prunegrid.commands import cli, cli_config
from prunegrid.commands.progress import Watch
from prunegrid.common import machine
from prunegrid.common.durations import roughly
from prunegrid.common.logs import QUIET
from prunegrid.graph.nodes import with_ancestors
from prunegrid.graph.pending import pending
from prunegrid.running import costs, history, outlook, resources, snakemake_bridge
from tests.helpers import shipped
from tests.helpers.runs import Run
from tests.helpers.study_world import ROOT, Graph, graph, make, validate

CORES = 2


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The graph of the tiny study in an empty folder, on a machine of two cores."""
    run = Run.fresh(tmp_path / "run")
    monkeypatch.chdir(run.folder)
    monkeypatch.setattr(machine, "cores", lambda: CORES)
    return cli_config.graph([Path("config.yaml")], (), "one")


def test_run_status_and_plan_give_one_figure_and_call_it_a_guess(study, monkeypatch, capsys):
    monkeypatch.setenv(QUIET, "1")
    about = snakemake_bridge.expected_steps(study, ["one"]).text(CORES)
    assert about.startswith("about ") and about.endswith(", a first guess")
    figure = about.removesuffix(", a first guess")
    head = Watch(study, "one", Path("results")).snapshot().head()
    assert f"{figure} of work left, a first guess" in head
    assert cli.main(["plan", "one", "-c", "config.yaml"]) == 0
    assert about in capsys.readouterr().out


def test_finished_steps_win_over_the_formula(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = graph()
    leaves = made.study_leaves("s")
    guess = outlook.expected(pending(leaves), history.seen(made.results))
    assert guess.is_guess
    for node in with_ancestors(leaves)[:-1]:
        make(node, parameters=135 * 10**6 if node.stage == "model" else 1000, seconds=2.0)
    last = pending(leaves)
    seen = outlook.expected(last, history.seen(made.results))
    assert not seen.is_guess and seen.seconds[last[0]] < guess.seconds[last[0]] / 2
    assert "guess" not in seen.text()


def test_rows_of_a_local_file_are_counted_before_its_data_are_read(study, monkeypatch):
    """A thousand rows were assumed: two hours for what took five minutes."""
    writes = [n for n in pending(study.study_leaves("one")) if n.stage == "predictions"]
    for node in writes:
        monkeypatch.delitem(node.settings, "rows", raising=False)
    held = resources.known_rows(writes[0].parents["data"])
    split = writes[0].settings["split"]
    assert 0 < held[split] < 100
    step, _ = resources.planned_step(writes[0])
    assert step.rows == held
    unknown = replace(step, rows=None)
    step, unknown = (replace(one, parameters=10**8) for one in (step, unknown))
    share = held[split] / costs.ASSUMED["rows"]
    assert 0 < costs.work(step) == pytest.approx(costs.work(unknown) * share, rel=0.1)


def test_an_outlook_is_revised_by_rows_that_were_read_since(study, monkeypatch):
    todo = pending(study.study_leaves("one"))
    for node in todo:
        monkeypatch.delitem(node.settings, "rows", raising=False)
    monkeypatch.setattr(resources, "likely_parameters", lambda node: 10**8)
    first = outlook.expected(todo, history.seen(study.results))
    data = {n.parents["data"] for n in todo if "data" in n.parents}
    assert first.of_data() == {node.key for node in data}
    read = dict.fromkeys(("train", "dev", "test"), 5000)
    monkeypatch.setattr(resources, "known_rows", lambda node: read)
    again = first.revised()
    assert again.seconds.keys() == first.seconds.keys()
    longer = {n.stage for n in todo if again.seconds[n] > first.seconds[n]}
    assert "predictions" in longer, longer


class Step(SimpleNamespace):
    """A node that can be a key."""

    __hash__ = object.__hash__


def step(*parents, stage="prune", processes=1):
    settings = {"processes": processes}
    return Step(
        stage=stage,
        threads=1,
        pins={"torch": "2"},
        settings=settings,
        parents=dict(enumerate(parents)),
    )


def test_steps_run_side_by_side_chains_do_not_and_a_timing_is_alone():
    free = {step(): 10.0 for _ in range(4)}
    assert outlook.together(free, 2) == 20 and outlook.together(free, 1) == 40
    first = step()
    second = step(first)
    assert outlook.together({first: 10.0, second: 10.0}, 8) == 20
    timed = {step(stage="efficiency"): 10.0 for _ in range(2)}
    assert outlook.together(free | timed, 4) == 10 + 20
    assert outlook.together({step(processes=2): 10.0, step(): 10.0}, 2) == 15
    assert outlook.together({}, 2) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "10 s"),
        (58, "1 min"),
        (610, "10 min"),
        (3580, "1 h"),
        (4900, "1 h 20 min"),
    ],
)
def test_an_estimate_is_said_in_round_numbers(seconds, text):
    assert roughly(seconds) == text


# CPU seconds of a step of the study `demo`, the mean of its kind: an AMD EPYC (Zen 5) with nothing
# beside it (benchmarks/demo), and an Intel Xeon (AVX-512, AMX) that was busy. One thread, bfloat16.
MEASURED = {
    "predictions": (28.6, 57.8),
    "finetune": (41.5, 93.4),
    "perplexity": (10.9, 18.1),
    "prune": (17.1, 45.0),
    "efficiency": (36.4, None),
    "scores": (4.0, 6.8),
    "model": (10.3, 23.5),
    "calibration": (13.8, 22.3),
    "controls": (None, 14.1),
    "data": (1.6, 3.7),
}


def test_each_kind_of_step_of_the_demo_is_estimated_near_what_it_took(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = Graph(validate(shipped.config(), shipped.FILES, ROOT), ROOT)
    estimates = defaultdict(list)
    for one in with_ancestors(whole.study_leaves("demo")):
        planned, _ = resources.planned_step(one)
        half = planned.compute_dtype and one.stage == "finetune"
        planned = replace(planned, compute_dtype="bfloat16" if half else "float32")
        estimates[one.stage].append(costs.seconds(planned))
    assert estimates.keys() == MEASURED.keys()
    for stage, seconds in estimates.items():
        for measured in filter(None, MEASURED[stage]):
            assert 0.7 < statistics.mean(seconds) / measured < 3.3, stage
