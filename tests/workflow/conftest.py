"""One finished run of the tiny study, made once; every test works on copies of it."""

from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.runs import Run

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder run whole pipelines."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id) -> Run:
    """The tiny study, run to its table by the first process that asks; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    # Each process of pytest-xdist has a folder of its own below the common one.
    place = (base if worker_id == "master" else base.parent) / "finished"
    with FileLock(f"{place}.lock"):
        if (place / "whole").exists():
            return Run(place / "run")
        run = Run.fresh(place / "run")
        done = run.snakemake("results/tiny.parquet")
        assert done.returncode == 0, done.stdout[-6000:]
        (place / "whole").touch()
    return run
