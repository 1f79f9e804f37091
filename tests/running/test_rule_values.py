"""The cores that rules ask for: here, of a cluster, and inside a submitted job."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from prunegrid.running import rule_values
from prunegrid.running.rule_values import RuleValues

NODES = {
    "data": {"pins": {}, "settings": {}},
    "perplexity": {"pins": {"torch": "2"}, "settings": {}},
    "finetune": {"pins": {"torch": "2"}, "settings": {"processes": 2}},
    "efficiency": {"pins": {"torch": "2"}, "settings": {}},
}


@pytest.fixture
def asked(monkeypatch):
    """Return (threads, cpus) of a stage, at so many cores, in a submitted job or not."""
    monkeypatch.setattr(rule_values.os, "cpu_count", lambda: 64)
    nodes = {stage: SimpleNamespace(threads=3, **facts) for stage, facts in NODES.items()}
    graph = SimpleNamespace(find=lambda stage, key: nodes[stage])

    def ask(stage, cores, submitted):
        found = {"_cores": SimpleNamespace(value=cores)}
        workflow = SimpleNamespace(remote_exec=submitted, global_resources=found)
        values, wildcards = RuleValues(graph, workflow, {}), SimpleNamespace(stage=stage, key="k")
        return values.threads(wildcards), values.cpus(wildcards)

    return ask


@pytest.mark.parametrize(
    ("stage", "cpus"), [("data", 1), ("perplexity", 3), ("finetune", 6), ("efficiency", 3)]
)
def test_a_submitted_job_asks_for_the_cores_that_it_was_given(asked, stage, cpus):
    """What Slurm gives is asked for again by the step inside the job: more would be refused."""
    assert asked(stage, None, submitted=False) == (cpus, cpus)
    assert asked(stage, 64, submitted=True) == (64, cpus)


def test_nothing_runs_beside_a_timing_here(asked):
    assert asked("efficiency", 8, submitted=False) == (8, 3)
    assert asked("perplexity", 8, submitted=False) == (3, 3)


def test_only_what_is_a_group_is_tied_together(tmp_path):
    """A mark of what runs by itself would be a job of its own, too small for its Snakemake."""
    stages = ["controls", "census", "perplexity", "efficiency", "scores"]
    leaves = [SimpleNamespace(stage=s, key=s, manifest=str(tmp_path / s)) for s in stages]
    (tmp_path / "scores").touch()  # of other weights, whose measures are all there
    keys = {"perplexity": "weights", "efficiency": "weights", "scores": "other"}
    graph = SimpleNamespace(
        study_leaves=lambda study: leaves,
        group_key=lambda node: keys.get(node.stage, "weights"),
        results=Path("sub/results"),  # moved by a module's prefix
    )
    values = RuleValues(graph, SimpleNamespace(local_exec=False), {})
    read = values.of_table("tiny")
    assert read[: len(leaves)] == [leaf.manifest for leaf in leaves]
    assert read[len(leaves) :] == ["sub/results/status/tiny-weights.measured"]
    tied = values.measured(SimpleNamespace(study="tiny", key="weights"))
    assert tied == [str(tmp_path / "perplexity"), str(tmp_path / "efficiency")]
