"""One finished run of the tiny study, made once; every test works on copies of it."""

import pytest
from runs import Run


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Run:
    """The tiny study, run to its table."""
    run = Run.fresh(tmp_path_factory.mktemp("tiny") / "run")
    done = run.snakemake("results/tiny.parquet")
    assert done.returncode == 0, done.stdout[-6000:]
    return run
