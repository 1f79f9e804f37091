"""Access to Snakemake beyond its rules: settings that are read, and the one that is changed.

Tested against the pinned Snakemake in `tests/workflow`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod, RerunTrigger

from prunegrid.artifacts.lock import hold_live
from prunegrid.common import machine, precision
from prunegrid.common.errors import PrunegridError
from prunegrid.config.config_files import ENTRY
from prunegrid.config.validated import Config
from prunegrid.running.resources import SMALLEST_MB

# Memory of a submitted job's Snakemake, and of the one that this starts; 200 MB each.
SNAKEMAKE_MB = 400


def keys_decide(workflow: Any) -> None:
    """Make keys alone decide what runs, whatever profile is used.

    Every artifact has its key in its path, and a stale table is made again
    (`prunegrid.tables.table_plan.is_stale`). Snakemake's memory of parameters, code and
    environments, which a clone lacks, must not decide too. A Snakefile has no public way to switch
    it off: Snakemake makes its DAG settings after reading it. So this is called while the DAG is
    built, when Snakemake asks for the inputs of a table.
    """
    workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})


def mark_run(workflow: Any) -> None:
    """Mark the folder until the run ends, so that `prunegrid repair` keeps away; jobs mark none."""
    if workflow.is_main_process:
        hold_live()


def has_conda(workflow: Any) -> bool:
    """Return whether conda is installed; without it jobs run in the current environment."""
    installed = shutil.which("conda") is not None
    if _uses_conda(workflow) and not installed and workflow.is_main_process:
        logger.warning("No conda found: running in the current environment (see README).")
    return installed


def _uses_conda(workflow: Any) -> bool:
    return DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method


def start(workflow: Any, config: Config) -> None:
    """Check that the machine is fit for a run, and log its limits, before the first job.

    Raises:
        SystemExit: the folder cannot be written, the memory is too small for any job, or jobs that
            run elsewhere have no precision of their own (`compute_dtype: auto`).
    """
    try:
        _require_writable(Path("results"))
        lines = [limits(workflow)] if workflow.local_exec else []
        lines += [precision.describe(config, Path("results"), workflow.local_exec)]
    except PrunegridError as error:
        sys.exit(f"prunegrid: {error}")
    logger.info("; ".join(filter(None, lines)))


def _require_writable(folder: Path) -> None:
    if folder.exists() and not os.access(folder, os.W_OK):
        raise PrunegridError(
            "cannot be written",
            where=str(folder.resolve()),
            remedy="mount it or make it writable, and run the same command again",
        )


def limits(workflow: Any) -> str:
    """Return in words the cores and memory that local jobs may use together.

    Raises:
        PrunegridError: the smallest job needs more memory than they may use.
    """
    limit = workflow.global_resources.get("mem_mb")
    limit_mb = machine.memory_mb() if limit is None else limit.value
    if limit_mb < SMALLEST_MB:
        raise PrunegridError(
            f"jobs may use {limit_mb:,} MB of memory here, and the smallest needs "
            f"{SMALLEST_MB:,} MB",
            remedy="raise the limit (of the container, or --resources mem_mb=…), or free memory",
        )
    count = cores(workflow)
    if count > machine.cores():
        logger.warning(
            f"{count} cores were asked for and this process may use {machine.cores()}: jobs will "
            "wait for each other, and measured times mean little."
        )
    memory = f"{limit_mb / 1000:.0f} GB of memory" if limit else "no limit of memory"
    return f"{count} job{'s' if count > 1 else ''} at a time, {memory}"


def cores(workflow: Any) -> int | None:
    """Return how many cores the jobs may use together; None if they are submitted, or in one."""
    return None if workflow.remote_exec else workflow.global_resources["_cores"].value


def alone_on(workflow: Any) -> str:
    """Return whether a job that takes all of `cores` has the "machine" or a "share" of it.

    On this machine no other job of the run is beside it. A submitted job has a whole node only with
    Slurm's `--exclusive`.
    """
    given = os.environ.get("SLURM_JOB_CPUS_PER_NODE")
    whole = not workflow.remote_exec or given == str(os.cpu_count())
    return "machine" if whole else "share"


def beside_mb(workflow: Any) -> int:
    """Return the megabytes that Snakemake takes in each job, beside the step."""
    return 0 if workflow.local_exec else SNAKEMAKE_MB


def laid_over(workflow: Any, root: Path) -> list[Path]:
    """Return the files that were laid over the project's `config.yaml`, in order.

    Raises:
        PrunegridError: the command line has --configfile twice: Snakemake would drop the first.
    """
    options = [word.partition("=")[0] for word in sys.argv]
    if (
        workflow.is_main_process
        and sum(o in ("--configfile", "--configfiles") for o in options) > 1
    ):
        raise PrunegridError(
            "--configfile stands twice, and Snakemake drops the first",
            remedy="name all files behind one: --configfile first.yaml second.yaml --",
        )
    return [Path(p) for p in workflow.overwrite_configfiles if Path(p) != root / ENTRY]


def write_partial_tables(workflow: Any, config: dict, studies: Iterable[str]) -> None:
    """Write the tables of studies whose run failed: failed cells are rows with their reasons.

    A nested run makes them by a job in the environment of every table. Such a table is stale, so
    the next run completes it.
    """
    studies = sorted(studies)
    if not studies:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as handle:
        json.dump(config, handle)  # JSON is YAML, and knows every kind of mapping
        handle.flush()
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--nolock", "--quiet", "all"]
        command += ["--snakefile", str(workflow.main_snakefile), "--configfile", handle.name]
        command += ["--use-conda"] if _uses_conda(workflow) else []
        command += ["--no-hooks", "--", *(f"results/status/{study}.partial" for study in studies)]
        done = subprocess.run(command, check=False)
    for study in studies:
        if done.returncode:
            logger.error(f"The partial table of {study} could not be written.")
        else:
            logger.error(f"Not all of {study} was made: results/{study}.md says what and why.")
