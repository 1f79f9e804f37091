"""Benchmarks that are asked of a tiny model through the stage `tasks`."""

from __future__ import annotations

from types import SimpleNamespace

import pandas
import pytest

from prunegrid.stages import tasks
from tests.helpers import benchmark_rows

TASK = {
    "define": None,
    "split": "validation",
    "shots": 0,
    "shots_from": None,
    "by": None,
    "rows": None,
    "metrics": ["acc"],
}
SETTINGS = {"batch_size": 4, "cache_dequantized": False}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return benchmark_rows.model(tmp_path_factory.mktemp("tasks") / "weights")


def ask(tmp_path, weights, task, data, **changes):
    """Return (record, scores, samples) of an evaluation by one task on an artifact of rows."""
    record, (found,) = ask_all(tmp_path, weights, (task, data, changes))
    return (found[0] | {"weights": record["weights"]}, *found[1:])


def ask_all(tmp_path, weights, *asked):
    """Return (record, [record, scores and samples of each]) of tasks (name, data, settings)."""
    out = tmp_path / "out"
    out.mkdir()
    job = SimpleNamespace(
        device="cpu", where="test", scratch=tmp_path / "scratch", compute_dtype="float32"
    )
    settings = {**SETTINGS, "tasks": [{**TASK, "task": task, **more} for task, _, more in asked]}
    rows = {f"data.{place}": data for place, (_, data, _) in enumerate(asked)}
    record = tasks.run(settings, {"weights": weights, **rows}, out, job)
    folders = [f"{place}-{task}" for place, (task, _, _) in enumerate(asked)]
    assert list(record["parts"]) == folders == sorted(path.name for path in out.iterdir())
    return record, [
        (
            record["parts"][folder],
            pandas.read_parquet(out / folder / "scores.parquet"),
            pandas.read_parquet(out / folder / "samples.parquet"),
        )
        for folder in folders
    ]
