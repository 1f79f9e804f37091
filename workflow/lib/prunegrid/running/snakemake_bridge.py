"""What prunegrid asks of Snakemake beyond its rules; the one place that touches its internals.

Tested against the pinned Snakemake in `tests/workflow`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod, RerunTrigger

from prunegrid.artifacts.lock import LIVE
from prunegrid.common import machine, precision
from prunegrid.common.errors import PrunegridError
from prunegrid.config.files import ENTRY
from prunegrid.config.validated import Config
from prunegrid.running import kept_attempts
from prunegrid.running.resources import SMALLEST_MB

# Files that this process holds locked for its time.
_held: list[IO] = []
# Of a submitted job: its Snakemake, and the one that this starts beside the step; 200 MB each.
SNAKEMAKE_MB = 400
# Set for the nested run that writes partial tables.
PARTIAL = "PRUNEGRID_PARTIAL"
_settled: list[bool] = []
# What the members of a group take of each other: a resource of their rules.
IN_TURN = "in_turn"


class Inherited:
    """Names in the order in which they were noted.

    Jobs on a cluster read the Snakefile again without knowing what was asked for, so they inherit
    it from the process that submitted them.

    Args:
        variable: of the environment, which holds them.
    """

    def __init__(self, variable: str) -> None:
        self.variable = variable

    def add(self, name: str) -> None:
        """Note a name; twice is once."""
        if name not in self:
            os.environ[self.variable] = ",".join([*self, name])

    def __iter__(self) -> Iterator[str]:
        return iter(name for name in os.environ.get(self.variable, "").split(",") if name)


def settle(workflow: Any) -> None:
    """Do without conda where there is none: the jobs then run in the current environment."""
    methods = workflow.deployment_settings.deployment_method
    if DeploymentMethod.CONDA in methods and shutil.which("conda") is None:
        if workflow.is_main_process:
            logger.warning("No conda found: running in the current environment (see README).")
        workflow.deployment_settings.deployment_method = frozenset(
            methods - {DeploymentMethod.CONDA}
        )


def hold_folder(workflow: Any) -> None:
    """Mark the folder as one with a live run, and forget the lock of a run that was killed.

    Snakemake's own lock stays when its process is killed, and then refuses every run. Each run
    holds a shared lock on a file beside it, which the kernel frees at its end, whatever that is: a
    run that can have it alone has no other beside it, and what was left is of the dead. The lock of
    a run on another machine, where no lock may be seen, is left to `snakemake --unlock`.

    To be called while the DAG is built: before that Snakemake does not know whether it only shows
    what it would do, and after it Snakemake asks for its own lock.
    """
    if _held or not workflow.is_main_process or workflow.dryrun:
        return
    _require_writable(Path("results"))
    try:
        LIVE.parent.mkdir(exist_ok=True)
        handle = open(LIVE, "a+", encoding="utf-8")  # noqa: SIM115 - held until the process ends
    except OSError:
        return  # Snakemake will say why
    _held.append(handle)
    here = socket.gethostname()
    left = sorted(LIVE.parent.glob("locks/*.lock"))
    with contextlib.suppress(OSError):  # a file system without locks, or another run is alive
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        handle.seek(0)
        if left and handle.read() == here:
            logger.warning("The last run was killed: its lock is removed.")
            for path in left:
                path.unlink(missing_ok=True)
            left = []
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_SH)
        if not left:  # else it may be of a run that has marked nothing
            handle.truncate(0)
            handle.write(here)
            handle.flush()


def _require_writable(folder: Path) -> None:
    """Leave with a word where nothing could be written."""
    if folder.exists() and not os.access(folder, os.W_OK):
        sys.exit(
            f"prunegrid: {folder.resolve()}: cannot be written; mount or make it writable, and "
            "run the same command again"
        )


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


def settle_run(workflow: Any, config: Config) -> None:
    """Settle what a run needs before its DAG is whole; once, however often it is called.

    To be called while the DAG is built: before that Snakemake does not know where jobs will run.

    Raises:
        SystemExit: the folder cannot be written, the memory is too small for any job, or jobs that
            run elsewhere are to compute in what this machine is fast in.
    """
    hold_folder(workflow)
    by_keys_only(workflow)
    if not workflow.is_main_process or os.environ.get(PARTIAL) or _settled:
        return
    _settled.append(True)
    try:
        said = [_limit(workflow)] if workflow.local_exec else []
        said += [precision.describe(config, Path("results"), workflow.local_exec)]
    except PrunegridError as error:
        sys.exit(f"prunegrid: {error}")
    logger.info("; ".join(filter(None, said)))


def _limit(workflow: Any) -> str:
    """Keep local jobs within the memory of the machine; return what will be used, in words.

    A limit that the user gave (`--resources mem_mb=…`) stays as it is.

    Raises:
        PrunegridError: the smallest job needs more memory than there is.
    """
    if "mem_mb" not in workflow.global_resources:
        workflow.register_resource("mem_mb", machine.memory_mb())
    limit, count = workflow.global_resources["mem_mb"].value, cores(workflow)
    if limit < SMALLEST_MB and not workflow.dryrun:
        raise PrunegridError(
            f"jobs may use {limit:,} MB of memory here, and the smallest needs {SMALLEST_MB:,} MB",
            remedy="raise the limit (of the container, or --resources mem_mb=…), or free memory",
        )
    if count > machine.cores():
        logger.warning(
            f"{count} cores were asked for and this process may use {machine.cores()}: jobs will "
            "wait for each other, and measured times mean little."
        )
    return f"{count} job{'s' if count > 1 else ''} at a time, {limit / 1000:.0f} GB of memory"


def settle_submitted(workflow: Any) -> None:
    """Run the members of a submitted group one after another, as its resources were asked for.

    The Snakemake inside the job is not told of `in_turn` (see `group`), and takes the cores of its
    whole node: members would start side by side in the memory of one, and be timed beside each
    other. What they make outlasts a later one's failure (`kept_attempts`).
    """
    if workflow.remote_exec:
        workflow.register_resource(IN_TURN, 1)
        os.environ[kept_attempts.SUBMITTED] = "1"


def group(workflow: Any, kind: str, key: str) -> str | None:
    """Return the name of a group of jobs that are submitted as one; None where jobs are only shown.

    Snakemake joins members that share no file only where it is told how many (by
    `--group-components`, of the kind). It counts their resources as if those that could run side by
    side did so, but for what exceeds a limit: each takes one `in_turn` of one. No profile needs to
    say either, and none of it reaches the Snakemake inside the job, which therefore does the same.
    """
    if workflow.dryrun:
        return None
    name, told = f"{kind}-{key}", workflow.group_settings.group_components
    if kind not in told:
        workflow.group_settings.group_components = {**told, kind: sys.maxsize}
        workflow.register_resource(IN_TURN, 1)
    workflow.parent_groupids[name] = kind
    return name


def by_keys_only(workflow: Any) -> None:
    """Make keys alone decide what runs, whatever profile is used.

    Every artifact has its key in its path, and a table is compared with its key by
    `prunegrid.tables.table_plan.is_stale`: Snakemake's own memory of parameters, code and
    environments (which a clone does not have) must not decide anything beside them. Inputs are
    `ancient()` in the rules, so times decide nothing either; nor do its marks of what was under
    way when it was killed, since an artifact is whole or absent, and a table half-written is no
    table. To be called while the DAG is built: Snakemake sets its DAG settings only after it has
    read the Snakefile.
    """
    workflow.dag_settings.rerun_triggers = frozenset({RerunTrigger.MTIME})
    workflow.dag.ignore_incomplete = True


def without_timers(workflow: Any) -> None:
    """Start jobs as resources allow, and no more than that, where they run on this machine.

    Snakemake limits how many start in a second, and looks again a second after each look: every
    job that ends adds one more such chain, so that after some hundred jobs its own process takes
    a large part of a core. To be called while the DAG is built, as `by_keys_only`.
    """
    # There are none where jobs are only shown.
    if workflow.local_exec and workflow.scheduling_settings is not None:
        workflow.scheduling_settings.max_jobs_per_timespan = None


def force(workflow: Any, files: list[str]) -> None:
    """Have the job of these files run, though they exist; to be called while the DAG is built."""
    workflow.dag.forcefiles.update(files)


def lock_also(workflow: Any, files: list[str]) -> None:
    """Have Snakemake lock files that jobs make beside those that it knows as their outputs.

    A run beside this one that makes or reads them is then refused. To be called while the DAG is
    built: Snakemake locks after it.
    """
    persistence = workflow.persistence
    known = persistence.all_outputfiles
    persistence.all_outputfiles = lambda: [*known(), *files]


def laid_over(workflow: Any, root: Path) -> list[Path]:
    """Return the files that were laid over the project's `config.yaml`, in order."""
    return [Path(p) for p in workflow.overwrite_configfiles if Path(p) != root / ENTRY]


def write_partial_tables(workflow: Any, config: dict, studies: list[str]) -> None:
    """Write the tables of studies whose run failed: failed cells are rows with their reasons.

    The tables are made by a job of their own, in the same environment as every table, by a nested
    run; a table so made is out of date by its key, so the next run completes it.
    """
    if not studies or os.environ.get(PARTIAL):
        return
    uses_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as handle:
        json.dump(config, handle)  # JSON is YAML, and knows every kind of mapping
        handle.flush()
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--nolock", "--quiet", "all"]
        command += ["--snakefile", str(workflow.main_snakefile), "--configfile", handle.name]
        command += ["--use-conda"] if uses_conda else []
        command += ["--", *(f"results/status/{study}.partial" for study in studies)]
        environment = {**os.environ, PARTIAL: "1"}
        done = subprocess.run(command, env=environment, check=False)
    for study in studies:
        if done.returncode:
            logger.error(f"The partial table of {study} could not be written.")
        else:
            logger.error(f"Not all of {study} was made: results/{study}.md says what and why.")
