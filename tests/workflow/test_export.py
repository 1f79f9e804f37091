"""A real study's models leave it: exported, checked elsewhere, and made again where dropped."""

import shlex
import shutil

import pandas

from prunegrid.artifacts import dropped
from prunegrid.models import exported_folder
from tests.helpers.runs import Run

CELL = "tiny/tiny-sparsegpt-2of4/tiny-qlora"
PRUNED = "tiny/tiny-wanda-50/none"


def test_a_tuned_model_is_checked_without_the_study(finished, tmp_path):
    run = finished.copy(tmp_path / "copy")
    assert run.prunegrid("export", CELL, "model").returncode == 0
    shutil.move(run.folder / "model", tmp_path / "model")
    shutil.rmtree(run.folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = Run(elsewhere).prunegrid("check", str(tmp_path / "model"))
    assert done.returncode == 0 and "2:4" in done.stdout, done.stdout + done.stderr
    about = exported_folder.read_header(tmp_path / "model")
    assert [step["stage"] for step in about["steps"]] == ["model", "prune", "finetune"]
    scores = {(score["split"], score["metric"]) for score in about["scores"]}
    assert ("tiny-ppl", "ppl_32_nonoverlap") in scores
    card = (tmp_path / "model/README.md").read_text()
    assert "on the split `calibration` of `tiny-text`" in card


def test_the_command_that_is_named_makes_dropped_weights_again(finished, tmp_path):
    run = finished.copy(tmp_path / "copy")
    rows = pandas.read_parquet(run.folder / "results/tiny.parquet")
    own = rows[(rows["prune"] == "tiny-wanda-50") & (rows["finetune"] == "none")]
    dropped.drop(run.folder / own["artifact"].iloc[0])
    refused = run.prunegrid("export", PRUNED, "x")
    assert refused.returncode == 1 and "dropped" in refused.stderr
    command = shlex.split(refused.stderr.strip().splitlines()[-1].partition("again: ")[2])
    assert command[:3] == ["snakemake", "--cores", "all"]
    place = command.index("--")
    made = run.snakemake(command[place + 1], *command[3:place])
    assert made.returncode == 0, made.stdout[-3000:]
    done = run.prunegrid("export", PRUNED, "x")
    assert done.returncode == 0, done.stderr
