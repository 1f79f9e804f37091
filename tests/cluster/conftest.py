"""One node of Slurm for all tests here, and what an undisturbed run without it makes."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.slurm_runs import SlurmRun

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def slurm():
    """A running one-node Slurm; one that this session started ends with it."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        absent("snakemake-executor-plugin-slurm is not installed: run `make env`")
    script = str(HERE / "slurm.sh")
    done = subprocess.run(
        [script, "start"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode == 3:
        absent(done.stdout.strip())
    assert done.returncode == 0, done.stdout
    yield
    if "Slurm is running" not in done.stdout:
        subprocess.run([script, "stop"], check=True)


def absent(reason: str) -> None:
    """Skip with the reason; on CI that is a failure."""
    if os.environ.get("CI"):
        pytest.fail(f"no Slurm on CI: {reason}", pytrace=False)
    pytest.skip(f"no Slurm here: {reason}")


@pytest.fixture(scope="session")
def calm(slurm, tmp_path_factory) -> SlurmRun:
    """All studies, run to their tables on this machine without Slurm."""
    run = SlurmRun.fresh(tmp_path_factory.mktemp("calm") / "run")
    done = run.snakemake(*(f"results/{study}.parquet" for study in ("tiny", "long", "ranks")))
    assert done.returncode == 0, done.stdout[-6000:]
    return run
