"""One undisturbed run of the study of one cell, which every disturbed one is compared with."""

import time
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.disturbed import SECRET, TARGET, fresh
from tests.helpers.runs import Run

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are of the fault suite."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(scope="session")
def calm(tmp_path_factory, worker_id) -> Run:
    """The study, undisturbed; `seconds` beside its folder is how long it took."""
    base = tmp_path_factory.getbasetemp()
    place = (base if worker_id == "master" else base.parent) / "calm"
    with FileLock(f"{place}.lock"):
        if not (place / "seconds").exists():
            run = fresh(place / "run")
            began = time.monotonic()
            done = run.snakemake(TARGET, HF_TOKEN=SECRET)
            assert done.returncode == 0, done.stdout[-6000:]
            (run.folder / "run.out").write_text(done.stdout)
            (place / "seconds").write_text(str(time.monotonic() - began))
    return Run(place / "run")
