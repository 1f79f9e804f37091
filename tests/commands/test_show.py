"""`prunegrid show` and `prunegrid run`: the short table, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
import sys

import pandas
import pytest

from prunegrid.commands import cli, run

CELLS = [
    {"prune": "dense", "finetune": "none", "status": "ok", "seed": None, "sparsity_effective": 0.0},
    {"prune": "w50", "finetune": "full", "status": "ok", "seed": 0, "sparsity_effective": 0.5},
    {"prune": "w70", "finetune": "none", "status": "failed", "seed": 0, "sparsity_effective": None},
]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Tables of a study with three cells, one of which failed."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    folder.mkdir()
    same = {"model": "m", "dataset": "d", "weight_precision": "float32", "reason": "no disk"}
    pandas.DataFrame([same | cell for cell in CELLS]).to_parquet(folder / "mine.parquet")
    scores = []
    for number, cell in enumerate(CELLS[:2]):
        for split, metric, value in (
            ("wiki", "ppl_128_nonoverlap", 20.0 + number),
            ("test", "rougeLsum", 0.3 + number / 10),
            ("test", "rouge1", 0.4),
        ):
            about = {key: cell[key] for key in ("prune", "finetune", "seed")}
            about |= {"model": "m", "dataset": "d", "kind": "cell", "split": split}
            bounds = {"low": value - 0.01, "high": value + 0.01}
            about |= {"metric": metric, "higher_is_better": split == "test"}
            scores.append(about | {"value": value} | bounds)
    pandas.DataFrame(scores).to_parquet(folder / "mine.long.parquet")
    contrast = {"a": "m / d / w50 / full", "b": "m / d / dense / none", "split": "wiki"}
    contrast |= {"metric": "ppl_128_nonoverlap", "verdict": "worse", "effect": "ratio"}
    contrast |= {"value": 1.05, "low": 1.01, "high": 1.09}
    pandas.DataFrame([contrast]).to_parquet(folder / "mine.contrasts.parquet")
    (folder / "mine.md").write_text("")
    return folder


def lines(capsys, *options: str) -> list[str]:
    """Return what the command prints of the study."""
    assert cli.main(["show", "mine", *options]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_row_a_cell_with_the_most_telling_scores(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "58")
    text = lines(capsys)
    first, _, dense, pruned, failed = text[:5]
    assert "perplexity" in first and "rougeLsum" in first and "rouge1" not in first
    assert "20.0 (20.0–20.0)" in dense and "0.300 (0.290–0.310)" in dense
    assert any("no room for sparsity" in line for line in text)
    assert "--columns" in " ".join(text) and "--csv" in " ".join(text)
    assert "21.0" in pruned and "failed" in failed
    assert "3 cells, 1 failed" in text
    assert any("FAILED m / w70 / none: no disk" in line for line in text)
    assert any("results/mine.md" in line for line in text)
    verdict = " ".join(line.strip() for line in text)
    assert "w50 / full against dense / none" in verdict and "worse" in verdict


def test_a_cell_without_a_seed_has_none(results, capsys):
    """Beside cells of two seeds, the dense cell, which draws nothing."""
    wide = pandas.read_parquet(results / "mine.parquet")
    wide.assign(seed=pandas.array([None, 0, 1], dtype="Int64")).to_parquet(results / "mine.parquet")
    head, _, dense, pruned, failed = lines(capsys, "--columns", "prune,finetune")[:5]
    assert head.split()[0] == "seed" and dense.split()[0] == "dense"
    assert (pruned.split()[0], failed.split()[0]) == ("0", "1")


def test_columns_stand_between_commas_or_spaces(results, capsys):
    wanted = lines(capsys, "--columns", "status,test rouge1")
    assert lines(capsys, "--columns", "status", "test rouge1") == wanted
    assert lines(capsys, "--columns", "status,", "test rouge1") == wanted
    assert "status" in wanted[0] and "rouge1 test" in wanted[0]


def test_a_model_that_lost_units_says_how_much_is_gone(results, capsys):
    wide = pandas.read_parquet(results / "mine.parquet")
    gone = wide.assign(removed_prunable=[None, 0.25, None])
    gone.to_parquet(results / "mine.parquet")
    _, _, dense, pruned, _ = lines(capsys, "--columns", "sparsity")[:5]
    assert "25.0% removed, 50%" in pruned and "removed" not in dense


def test_a_table_is_shown_without_the_libraries_of_models():
    code = "import sys; from prunegrid.commands import cli; cli.parser(['show'])\n"
    code += "print(sorted({'torch', 'transformers', 'matplotlib', 'scipy'} & sys.modules.keys()))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_table_that_is_not_there_says_how_to_make_it(results, capsys):
    assert cli.main(["show", "demo"]) == 1
    assert "prunegrid run demo" in capsys.readouterr().err
    assert cli.main(["show", "mien"]) == 1
    assert "did you mean 'mine'" in capsys.readouterr().err


def test_a_wrong_name_is_told_before_anything_runs(results, capsys):
    assert cli.main(["run", "dmo"]) == 1
    assert "did you mean 'demo'" in capsys.readouterr().err


def test_the_command_is_snakemakes_own():
    command = run.command("mine", ["a.yaml"], ["device=cuda"], cores=3, memory_mb=5000)
    assert command[:3] == [sys.executable, "-m", "snakemake"]
    assert command[-2:] == ["--", "results/mine.parquet"]
    for pair in (
        ["--cores", "3"],
        ["--logger", "prunegrid"],
        ["--resources", "mem_mb=5000"],
        ["--configfile", "a.yaml"],
        ["--config", "device=cuda"],
    ):
        place = command.index(pair[0])
        assert command[place : place + 2] == pair
