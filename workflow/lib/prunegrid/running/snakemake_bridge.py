"""What prunegrid reads of Snakemake beyond its rules, and the one setting of its that it changes.

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

# Of a submitted job: its Snakemake, and the one that this starts beside the step; 200 MB each.
SNAKEMAKE_MB = 400


def keys_decide(workflow: Any) -> None:
    """Make keys alone decide what runs, whatever profile is used.

    Every artifact has its key in its path, and a table that is not its plan's is made again
    (`prunegrid.tables.table_plan.is_stale`): Snakemake's own memory of parameters, code and
    environments, which a clone does not have, must not decide anything beside them. There is no
    public way to say so in a Snakefile: Snakemake makes its DAG settings only after it has read
    that, so this is called when the inputs of a table are asked for, while the DAG is built.
    """
    workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})


def mark_run(workflow: Any) -> None:
    """Mark the folder for the time of the run; its jobs mark nothing.

    So `prunegrid repair` keeps away while a run is alive.
    """
    if workflow.is_main_process:
        hold_live()


def has_conda(workflow: Any) -> bool:
    """Return whether conda is installed; without it jobs run in the current environment."""
    found = shutil.which("conda") is not None
    asked = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    if asked and not found and workflow.is_main_process:
        logger.warning("No conda found: running in the current environment (see README).")
    return found


def start(workflow: Any, config: Config) -> None:
    """Check what a run needs of its machine, and say what it uses, before its first job.

    Raises:
        SystemExit: the folder cannot be written, the memory is too small for any job, or jobs that
            run elsewhere are to compute in what this machine is fast in.
    """
    try:
        _require_writable(Path("results"))
        said = [limits(workflow)] if workflow.local_exec else []
        said += [precision.describe(config, Path("results"), workflow.local_exec)]
    except PrunegridError as error:
        sys.exit(f"prunegrid: {error}")
    logger.info("; ".join(filter(None, said)))


def _require_writable(folder: Path) -> None:
    """Check that results can be written.

    Raises:
        PrunegridError: they cannot.
    """
    if folder.exists() and not os.access(folder, os.W_OK):
        raise PrunegridError(
            "cannot be written",
            where=str(folder.resolve()),
            remedy="mount it or make it writable, and run the same command again",
        )


def limits(workflow: Any) -> str:
    """Return in words what local jobs may use together.

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
    told = f"{limit_mb / 1000:.0f} GB of memory" if limit else "no limit of memory"
    return f"{count} job{'s' if count > 1 else ''} at a time, {told}"


def cores(workflow: Any) -> int | None:
    """Return how many cores the jobs may use together; None where they are submitted.

    In a submitted job it is None too: there Snakemake counts the cores of the whole node.
    """
    return None if workflow.remote_exec else workflow.global_resources["_cores"].value


def alone_on(workflow: Any) -> str:
    """Return what a job that takes all of `cores` has for itself: "machine" or "share".

    On this machine no other job of the run is beside it. A submitted job has the cores that it was
    given: a whole node where Slurm says so (`--exclusive`).
    """
    given = os.environ.get("SLURM_JOB_CPUS_PER_NODE")
    whole = not workflow.remote_exec or given == str(os.cpu_count())
    return "machine" if whole else "share"


def beside_mb(workflow: Any) -> int:
    """Return the megabytes that Snakemake itself takes in each job, beside the step."""
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

    The tables are made by a job of their own, in the same environment as every table, by a nested
    run; a table so made is out of date by its key, so the next run completes it.
    """
    studies = sorted(studies)
    if not studies:
        return
    uses_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as handle:
        json.dump(config, handle)  # JSON is YAML, and knows every kind of mapping
        handle.flush()
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--nolock", "--quiet", "all"]
        command += ["--snakefile", str(workflow.main_snakefile), "--configfile", handle.name]
        command += ["--use-conda"] if uses_conda else []
        command += ["--no-hooks", "--", *(f"results/status/{study}.partial" for study in studies)]
        done = subprocess.run(command, check=False)
    for study in studies:
        if done.returncode:
            logger.error(f"The partial table of {study} could not be written.")
        else:
            logger.error(f"Not all of {study} was made: results/{study}.md says what and why.")
