"""The examples run as they stand, and beside them the commands and snippets of the docs."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pandas
import pytest

from prunegrid.commands import cli
from tests.helpers.doc_pages import commands, snippets
from tests.helpers.runs import FOR_EVER, ROOT, Run

SNIPPETS = [block for block in snippets() if not block.mark]
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.yaml"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the examples and their inputs, where all five have run."""
    run = Run(tmp_path_factory.mktemp("examples"))
    (run.folder / "examples").symlink_to(ROOT / "examples")
    made = subprocess.run(
        [sys.executable, "examples/make_inputs.py", "inputs"],
        cwd=run.folder,
        env=run.environment(),
        capture_output=True,
        text=True,
        timeout=FOR_EVER,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return run


def finished(place: Run, name: str) -> pandas.DataFrame:
    """Run an example as its head says, its steps made by one process before; return its table."""
    place.make_artifacts(name, f"examples/{name}.yaml")
    head = (ROOT / f"examples/{name}.yaml").read_text(encoding="utf-8")
    words = f"run {name} -c examples/{name}.yaml"
    assert f"#   prunegrid {words}\n" in head
    done = place.prunegrid(*words.split())
    assert done.returncode == 0, done.stderr[-4000:]
    table = pandas.read_parquet(place.folder / f"results/{name}.parquet")
    assert set(table["status"]) == {"ok"}
    assert "0 failed" in done.stdout
    return table


def test_there_are_five_and_the_page_names_each():
    page = (ROOT / "examples/README.md").read_text(encoding="utf-8")
    assert len(NAMES) == 5
    assert all(f"[{name}.yaml]({name}.yaml)" in page for name in NAMES)


def test_own_model_and_own_documents(place):
    table = finished(place, "own-data").set_index(["prune", "finetune"])
    assert len(table) == 4
    assert table.loc[("my-wanda", "my-full"), "sparsity_effective"] == 0.5
    assert table.loc["my-wanda", "nm_valid"].all()
    contrasts = pandas.read_parquet(place.folder / "results/own-data.contrasts.parquet")
    assert contrasts["contrast"].tolist() == ["tuning"]


def test_a_sweep_over_a_text_file(place):
    table = finished(place, "sweep")
    assert sorted(table["sparsity_effective"].round(2)) == [0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    cliffs = pandas.read_parquet(place.folder / "results/sweep.cliffs.parquet")
    assert cliffs["cliff"].sum() == 1 and len(cliffs) == len(table)


def test_merged_lora_and_a_benchmark_of_own_questions(place):
    table = finished(place, "benchmark").set_index(["prune", "finetune"])
    assert (table.loc["my-magnitude", "sparsity_effective"] == 0.5).all()
    assert (table["sky_n"] == 40).all() and table["sky_acc"].between(0, 1).all()


def test_a_metric_of_ones_own_is_in_the_table_and_on_the_page(place):
    table = finished(place, "own-metric")
    assert table["test_names_right"].between(0, 1).all()
    page = (place.folder / "results/own-metric.md").read_text(encoding="utf-8")
    assert "names_right" in page and "lead-12" in page


def test_a_smaller_model_in_three_steps(place):
    table = finished(place, "smaller")
    gone = table.groupby("arm")["removed_prunable"].max()
    assert gone["iterative"] == pytest.approx(0.3, abs=0.02)
    assert gone["one-shot-tuned"] == pytest.approx(0.3, abs=0.02)


@pytest.mark.parametrize("page", sorted({str(b.page.relative_to(ROOT)) for b in SNIPPETS}))
def test_the_snippets_of_a_page_work(place, page, monkeypatch, capsys):
    """Commands and Python, one after another; the examples that they read have run by now."""
    monkeypatch.chdir(place.folder)
    names: dict = {}
    for block in SNIPPETS:
        if block.page != ROOT / page:
            continue
        if block.language == "python":
            exec(block.text, names)
            continue
        for command in commands(block):
            program, *words = shlex.split(command)
            made = words[0] == "run" and Path(f"results/{words[1]}.parquet").is_file()
            if program == "prunegrid" and not made:
                assert cli.main(words) == 0, capsys.readouterr().err
            elif program == "sed":
                subprocess.run(command, shell=True, check=True)
