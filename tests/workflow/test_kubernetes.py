"""`profiles/kubernetes`, its pods played by processes that start in empty folders."""

from pathlib import Path

import pandas
import pytest

from tests.helpers.own_metric import write_plain
from tests.helpers.pod_runs import PodRun
from tests.helpers.runs import Run, lasting, table

TABLE = "results/pods.parquet"
CHECK = """
import pathlib


def check():
    if pathlib.Path("broken").exists():
        raise OSError("broken")
"""


def add_study(tree: dict) -> None:
    """Add a study of one cell, with a metric that fails while there is a file `broken`."""
    tree["metrics"]["mine"] = {"module": "mine.py"}
    tree["evaluations"]["tiny-quick"]["metrics"].append("mine")
    tree["studies"]["pods"] = {
        "dataset": "tiny-notes",
        "grid": {"model": "tiny-llama", "prune": "tiny-magnitude-2of4"},
        "evaluations": ["tiny-quick"],
    }


def with_study(finished: Run, folder: Path) -> PodRun:
    """Return a copy of a finished run of another study, to which this one is added."""
    run = PodRun.of(finished, folder)
    write_plain(
        run.folder / "mine.py",
        "check() or {'mine': [float(len(p)) for p in predictions]}",
        {"mine": {"higher_is_better": True}},
        more=CHECK,
    )
    run.configure(add_study)
    return run


def stored(folder: Path) -> list[Path]:
    """Return the local copies of what a storage provider has brought or taken."""
    return [path for path in folder.glob(".snakemake/storage/**/*") if path.is_file()]


@pytest.fixture(scope="module")
def world(finished, tmp_path_factory) -> PodRun:
    """The study in pods: a step fails in both tries of a first run, and not in a second run."""
    run = with_study(finished, tmp_path_factory.mktemp("world") / "run")
    (run.folder / "broken").touch()
    run.failed = run.snakemake(TABLE)
    run.partial = table(run, "pods")
    (run.folder / "broken").unlink()
    run.whole = run.snakemake(TABLE)
    assert run.whole.returncode == 0, run.whole.stdout
    return run


def test_a_failed_step_is_a_row_with_its_reason(world):
    assert world.failed.returncode == 1, world.failed.stdout
    (row,) = world.partial.to_dict("records")
    assert row["status"] == "failed" and "broken" in row["reason"]


def test_a_group_that_is_tried_again_repeats_no_whole_step(world):
    first, again, last = ((pod / "output").read_text() for pod in world.pods_of("evaluate-"))
    assert "is there already" not in first
    assert again.count("generate test: is there already") == 1
    assert "generate test" not in last


def test_steps_write_to_the_volume_and_nothing_else_travels(world):
    assert len(world.pods_of("prune-")) == 1
    for pod in world.pods_of(""):
        assert not (pod / "workdir/results").exists()
        (sources,) = stored(pod / "workdir")
        assert sources.suffixes[-2:] == [".tar", ".xz"]
    assert stored(world.folder) == []
    for stage in ("prune", "predictions", "scores"):
        assert list(world.folder.glob(f"results/logs/{stage}/*.log"))
        assert list(world.folder.glob(f"results/benchmarks/{stage}/*.tsv"))
    assert not list(world.folder.glob("results/status/*-*"))
    assert (done := world.prunegrid("verify", TABLE)).returncode == 0, done.stdout


def test_the_table_is_that_of_a_run_at_home(world, finished, tmp_path):
    run = with_study(finished, tmp_path / "run").at_home
    assert (done := run.snakemake(TABLE)).returncode == 0, done.stdout
    pandas.testing.assert_frame_equal(*(lasting(table(one, "pods")) for one in (run, world)))


def test_only_what_depends_on_a_change_runs_again(world):
    """Of either kind of run, what the other made is whole too."""
    assert world.plan(TABLE) == world.at_home.plan(TABLE) == {}
    assert world.plan("results/tiny.parquet") == {}
    world.configure(lambda tree: tree["generation"]["tiny"].update(max_new_tokens=7))
    changed = dict.fromkeys(("generate", "score", "aggregate"), 1)
    assert world.plan(TABLE) == world.at_home.plan(TABLE) == changed
