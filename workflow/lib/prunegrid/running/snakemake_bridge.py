"""Access to Snakemake beyond its rules: settings that are read, and the one that is changed.

Tested against the pinned Snakemake in `tests/workflow`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from snakemake.io import flag
from snakemake.logging import logger
from snakemake.path_modifier import PATH_MODIFIER_FLAG
from snakemake.settings.types import DeploymentMethod, RerunTrigger, SharedFSUsage

from prunegrid.artifacts.lock import hold_live
from prunegrid.common import file_io, machine, precision
from prunegrid.common.errors import PrunegridError
from prunegrid.common.logs import QUIET
from prunegrid.common.source_code import LIBRARY
from prunegrid.config.config_files import ENTRY
from prunegrid.config.validated import Config
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import RESULTS
from prunegrid.graph.pending import pending
from prunegrid.graph.stage_facts import stage_facts
from prunegrid.running import history, interruption, outlook
from prunegrid.running.outlook import Outlook
from prunegrid.running.resources import SMALLEST_MB

# Memory of a submitted job's Snakemake, and of the one that this starts; 200 MB each.
SNAKEMAKE_MB = 400
# The workflow of partial tables.
PARTIAL = LIBRARY.parent / "rules/partial.smk"


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


def lacks_conda(workflow: Any) -> bool:
    """Return whether conda is asked for and not installed; jobs then run in this environment."""
    lacking = _uses_conda(workflow) and shutil.which("conda") is None
    if lacking and workflow.is_main_process:
        logger.warning("No conda found: running in the current environment (see README).")
    return lacking


def _uses_conda(workflow: Any) -> bool:
    return DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method


def results_folder(workflow: Any) -> Path:
    """Return the folder of all results: `results`, or where the prefix of a module moves it."""
    modified = workflow.modifier.path_modifier.replace_prefix(f"{RESULTS}/x")
    return Path(str(modified)).parent


def in_place(path: str | Path) -> str:
    """Return a path that Snakemake takes as it is: it adds no module's prefix and no storage.

    An executor without a shared file system sends every declared file through a storage provider.
    A step writes a whole folder and declares its manifest alone, so its files must stay where it
    writes them. Files marked `local()` stay too, but Snakemake then runs their job at home.
    """
    return flag(Path(path).as_posix(), PATH_MODIFIER_FLAG)


def own_folder(workflow: Any) -> Path:
    """Return the folder of the Snakefile that is read, also where another one imports it.

    Raises:
        PrunegridError: it is no folder of this machine.
    """
    place = workflow.current_basedir.get_path_or_uri(secret_free=True)
    if not Path(place).is_dir():
        remedy = "clone the repository, and name the Snakefile in it"
        raise PrunegridError("is no folder of this machine", where=str(place), remedy=remedy)
    return Path(place)


def expected_steps(graph: Graph, studies: Iterable[str]) -> Outlook | None:
    """Return what is expected of the steps to run, for `--logger prunegrid`.

    Any other output has no use for it, so it gets None.
    """
    if not os.environ.get(QUIET):
        return None
    leaves = [leaf for study in studies for leaf in graph.study_leaves(study)]
    return outlook.expected(pending(leaves), history.seen(graph.results))


def start(
    workflow: Any,
    config: Config,
    results: Path,
    expected: Outlook | None = None,
) -> None:
    """Check that the machine is fit for a run, and log its limits, before the first job.

    Args:
        expected: of `expected_steps`; the line carries it.

    Raises:
        SystemExit: the folder cannot be written, the memory is too small for any job, or jobs that
            run elsewhere have no precision of their own (`compute_dtype: auto`).
    """
    interruption.listen()
    try:
        _require_writable(results)
        require_one_folder(workflow)
        lines = [limits(workflow)] if workflow.local_exec else []
        lines += [precision.describe(config, results, workflow.local_exec)]
    except PrunegridError as error:
        sys.exit(f"prunegrid: {error}")
    logger.info("; ".join(filter(None, lines)), extra=_facts(expected, cores(workflow)))


def _facts(expected: Outlook | None, cores: int | None) -> dict[str, Any]:
    """Return what the first line of a run carries for `--logger prunegrid`."""
    if not expected or not expected.seconds:
        return {}

    def seconds() -> dict[str, float]:
        return {node.key: seconds for node, seconds in expected.revised().seconds.items()}

    steps = {n.key: (stage_facts(n.stage).rule, s) for n, s in expected.seconds.items()}
    facts = {"expected": steps, "about": expected.text(cores), "beside": cores}
    return {**facts, "revised_after": expected.of_data(), "revised": seconds}


def _require_writable(folder: Path) -> None:
    if folder.exists() and not os.access(folder, os.W_OK):
        raise PrunegridError(
            "cannot be written",
            where=str(folder.resolve()),
            remedy="mount it or make it writable, and run the same command again",
        )


def require_one_folder(workflow: Any) -> None:
    """Check that jobs of an executor without a shared file system work in this folder.

    Raises:
        PrunegridError: they would write their artifacts to a disk of their own.
    """
    settings, here = workflow.storage_settings, Path.cwd()
    if SharedFSUsage.INPUT_OUTPUT in settings.shared_fs_usage:
        return
    stored, worked_in = settings.default_storage_prefix, workflow.overwrite_workdir
    if (
        [Path(place or "") for place in (stored, worked_in)] != [here, here]
        or settings.retrieve_storage
        or not Path(workflow.main_snakefile).is_relative_to(here)
    ):
        raise PrunegridError(
            "jobs that share no file system must work in the project's folder, on a volume that "
            "they mount",
            where=str(here),
            expected=f"--directory and --default-storage-prefix of {here}, --not-retrieve-storage",
            remedy="run in the project's folder with --workflow-profile profiles/kubernetes",
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
    """Return the files that are laid over the project's `config.yaml`, in order.

    They are those of --configfile, and of a Snakefile that imports this one.

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
    over = list(workflow.overwrite_configfiles)
    files = [*(path for path in workflow.configfiles if path not in over), *over]
    return [Path(p) for p in files if Path(p) != root / ENTRY]


def tell_kept(study: str, results: Path) -> None:
    """Say that an interrupted run has left the finished table of an earlier run as it was."""
    table = results / f"{study}.parquet"
    logger.warning(f"{table} is still the one that an earlier run has finished.")


def write_partial_tables(
    workflow: Any, plans: Mapping[str, Mapping[str, Any]], results: Path
) -> None:
    """Write the tables of studies whose run failed: failed cells are rows with their reasons.

    A nested run makes them by a job in the environment of every table. It reads the plans alone:
    the config and a user's files may have changed since the run began. Such a table is stale, so
    the next run completes it.

    Args:
        plans: {study: plan of its table} of the tables that are not whole.
    """
    if not plans:
        return
    targets = [results / f"status/{study}.partial" for study in sorted(plans)]
    for target in targets:
        file_io.write_json(target.with_suffix(".plan.json"), plans[target.stem])
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--nolock", "--quiet", "all"]
    command += ["--snakefile", str(PARTIAL), "--force"]
    command += ["--use-conda"] if _uses_conda(workflow) and shutil.which("conda") else []
    subprocess.run([*command, "--", *map(str, targets)], check=False)
    say = logger.warning if interruption.is_told() else logger.error
    for target in targets:
        if target.exists():
            place = results / f"{target.stem}.md"
            say(f"Not all of {target.stem} was made: {place} says what and why.")
        else:
            logger.error(f"The partial table of {target.stem} could not be written.")
        for path in (target, target.with_suffix(".plan.json")):
            path.unlink(missing_ok=True)
