"""`retention: needed`: weights go when they are read, and come back for a step that is added."""

import json

import pandas
import pytest
from runs import Run


def artifacts(run, stage):
    return sorted((run.folder / "results/artifacts" / stage).glob("*/manifest.json"))


def is_dropped(manifest):
    weights = list(manifest.parent.rglob("*.safetensors"))
    assert bool(weights) != (manifest.parent / "dropped.json").exists()
    return not weights


@pytest.fixture(scope="module")
def lean(tmp_path_factory) -> Run:
    """Study `one`, made under `retention: needed`."""
    run = Run.fresh(tmp_path_factory.mktemp("lean"))
    run.configure(lambda tree: tree.update(retention="needed"))
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
    before = {path: path.read_bytes() for path in artifacts(run, "finetune")}
    sha256 = pandas.read_parquet(run.folder / "results/one.parquet")["weights_sha256"].item()
    run.configure(lambda tree: tree["studies"]["one"]["evaluations"].append("tiny-ppl"))
    planned = {"prune": 1, "finetune": 1, "download_data": 1, "perplexity": 1, "aggregate": 1}
    assert run.plan("results/one.parquet") == planned
    done = run.snakemake("results/one.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    row = pandas.read_parquet(run.folder / "results/one.parquet").iloc[0]
    assert row["status"] == "ok" and row["weights_sha256"] == sha256
    assert row["tiny-ppl_ppl_32_nonoverlap"] > 1
    assert {path: path.read_bytes() for path in artifacts(run, "finetune")} == before
    assert all(map(is_dropped, artifacts(run, "finetune")))
    assert run.plan("results/one.parquet") == {}
    assert json.loads(artifacts(run, "perplexity")[0].read_text())["record"]["weights"]
