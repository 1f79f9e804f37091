"""What could go: what no study reaches, never what a table names or a job makes."""

import os
import socket
from pathlib import Path

import pytest

from prunegrid.artifacts import artifact_folder
from prunegrid.commands import collect_garbage
from prunegrid.common import file_io
from prunegrid.graph.nodes import with_ancestors
from tests.helpers.study_world import graph, make


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The artifacts of study s, and of a tuning that it no longer has."""
    monkeypatch.chdir(tmp_path)
    for node in with_ancestors(graph(tunings=("none", "demo-full")).study_leaves("s")):
        make(node)
    return tmp_path / "results"


def test_only_what_no_study_reaches_goes(results):
    assert collect_garbage.find([graph()], results) == []
    smaller = graph(tunings=("none",))
    garbage = collect_garbage.find([smaller], results)
    assert {one.path.parent.name for one in garbage} == {"data", "finetune", "perplexity"}
    assert len(garbage) == 5  # two tunings, their perplexities, the data that they learned
    assert all(one.size > 0 and one.label for one in garbage)
    assert all(one.path.exists() for one in garbage), "finding removes nothing"
    collect_garbage.remove(garbage)
    assert collect_garbage.find([smaller], results) == []
    assert all(Path(node.manifest).exists() for node in smaller.all_nodes())


def test_folders_without_manifest_go(results):
    """`snakemake --delete-all-output` removes manifests, the declared outputs, and no weights."""
    kept, *others = [n for n in graph().all_nodes() if n.stage in ("prune", "finetune")]
    for node in others:
        (node.path / "manifest.json").unlink()
    os.replace(kept.path / "manifest.json", kept.path / "dropped.json")
    garbage = collect_garbage.find([graph()], results)
    assert {one.path.name for one in garbage} == {node.key for node in others}
    assert all(one.label == "without a manifest" and one.size > 0 for one in garbage)


def test_what_a_table_names_stays_unless_asked(results):
    smaller = graph(tunings=("none",))
    one = collect_garbage.find([smaller], results)[0]
    named = {"path": f"results/artifacts/{one.path.parent.name}/{one.path.name}"}
    plan = {"cells": [{"chain": [named | {"key": one.path.name, "stage": "x"}]}]}
    file_io.write_json(results / "old.manifest.json", {"plan": plan})
    assert one not in collect_garbage.find([smaller], results)
    assert one in collect_garbage.find([smaller], results, tables=True)


def test_what_a_job_makes_stays(results):
    smaller = graph(tunings=("none",))
    one = collect_garbage.find([smaller], results)[0]
    state = {"state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    file_io.write_json(results / "status" / f"{one.path.parent.name}-{one.path.name}.json", state)
    assert one not in collect_garbage.find([smaller], results)
    (results / "artifacts/prune/.abc.1.tmp").mkdir()
    assert not any(
        found.path.name.startswith(".") for found in collect_garbage.find([smaller], results)
    )


def test_scratch_of_steps_that_are_gone_goes(results):
    whole = graph()
    (keyed,) = [n for n in whole.all_nodes() if n.stage == "calibration"]
    for name in (f"calibration-{keyed.key}", "calibration-0123456789abcdef"):
        (results / "scratch" / name).mkdir(parents=True)
    (one,) = collect_garbage.find([whole], results)
    assert one.path.name == "calibration-0123456789abcdef"


def test_weights_that_are_read_go_where_only_what_is_needed_is_kept(results):
    lean = graph(keep_weights="until_used")
    garbage = collect_garbage.find([lean], results)
    assert {one.path.parent.name for one in garbage} == {"prune", "finetune"}
    assert all(one.weights and one.size == 4000 for one in garbage)
    collect_garbage.remove(garbage)
    assert all(artifact_folder.is_dropped(one.path) for one in garbage)
    assert collect_garbage.find([lean], results) == []


def test_what_another_config_or_device_reaches_stays(results):
    whole, smaller = graph(tunings=("none", "demo-full")), graph(tunings=("none",))
    assert collect_garbage.find([smaller, whole], results) == []
    assert collect_garbage.find([smaller], results, besides=[whole]) == []
    assert collect_garbage.find([smaller], results)


def test_weights_go_only_where_every_config_does_without(results):
    lean, whole = graph(keep_weights="until_used"), graph()
    assert collect_garbage.find([lean], results)
    assert collect_garbage.find([lean, whole], results) == []
    # What is kept for another device has no say: nothing of it was made.
    assert collect_garbage.find([lean], results, besides=[whole]) == collect_garbage.find(
        [lean], results
    )
