"""`keep_weights: until_used`: weights go once they are read, and come back for an added step."""

import pandas
import pytest

from prunegrid.artifacts import dropped
from prunegrid.config.config_files import read_files
from prunegrid.config.load import validate
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import WEIGHTS_MADE, with_ancestors
from tests.helpers import shipped
from tests.helpers.runs import ROOT, Run
from tests.helpers.study_world import make


def artifacts(run, stage):
    return sorted((run.folder / "results/artifacts" / stage).glob("*"))


def is_dropped(folder):
    weights = list(folder.rglob("*.safetensors"))
    assert bool(weights) != (folder / "dropped.json").exists()
    return not weights


def test_snakemake_reruns_what_is_pending_and_nothing_else(tmp_path, monkeypatch):
    """Dry runs over artifacts that no job made: the rules see what `pending` says."""
    run = Run.fresh(tmp_path / "run")
    monkeypatch.chdir(run.folder)
    files = [*shipped.FILES, run.folder / "config.yaml"]
    graph = Graph(validate(read_files(files), files, run.folder), ROOT)
    for node in with_ancestors(graph.study_leaves("one")):
        make(node)
        if node.stage in WEIGHTS_MADE:
            dropped.drop(node.path)
    assert run.plan("results/one.parquet") == {"aggregate": 1}
    run.configure(lambda tree: tree["studies"]["one"]["evaluations"].append("tiny-ppl"))
    planned = {"prune": 1, "finetune": 1, "download_data": 1, "perplexity": 1, "aggregate": 1}
    assert run.plan("results/one.parquet") == planned


@pytest.fixture(scope="module")
def lean(tmp_path_factory) -> Run:
    """Study `one`, made under `keep_weights: until_used`."""
    run = Run.fresh(tmp_path_factory.mktemp("lean"))
    run.configure(lambda tree: tree.update(keep_weights="until_used"))
    done = run.snakemake("results/one.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    return run


def test_weights_go_and_nothing_reruns(lean):
    for stage in ("prune", "finetune"):
        assert all(map(is_dropped, artifacts(lean, stage)))
    assert not any(map(is_dropped, artifacts(lean, "model")))
    assert lean.plan("results/one.parquet") == {}
    told = lean.prunegrid("plan", "one", "--configfile", "config.yaml")
    assert "one: 1 cells, 0 jobs to run" in told.stdout, told.stderr
    assert "0 folder(s)" in lean.prunegrid("gc", "--configfile", "config.yaml").stdout
    verified = lean.prunegrid("verify", "results/one.parquet")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "dropped" in verified.stderr


def test_a_step_that_is_added_has_them_made_again_as_they_were(lean, tmp_path):
    run = lean.copy(tmp_path / "more")
    before = [path.joinpath("dropped.json").read_bytes() for path in artifacts(run, "finetune")]
    sha256 = pandas.read_parquet(run.folder / "results/one.parquet")["weights_sha256"].item()
    run.configure(lambda tree: tree["studies"]["one"]["evaluations"].append("tiny-ppl"))
    planned = {"prune": 1, "finetune": 1, "download_data": 1, "perplexity": 1, "aggregate": 1}
    assert run.plan("results/one.parquet") == planned
    done = run.snakemake("results/one.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    row = pandas.read_parquet(run.folder / "results/one.parquet").iloc[0]
    assert row["status"] == "ok" and row["weights_sha256"] == sha256
    assert row["tiny-ppl_ppl_32_nonoverlap"] > 1
    assert all(map(is_dropped, artifacts(run, "finetune")))
    after = [path.joinpath("dropped.json").read_bytes() for path in artifacts(run, "finetune")]
    assert after == before
    assert run.plan("results/one.parquet") == {}
