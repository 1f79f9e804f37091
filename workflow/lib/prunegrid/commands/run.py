"""Runs of a study by Snakemake, with all of this machine and a line a step."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from prunegrid.commands.show import lines
from prunegrid.common import machine
from prunegrid.common.errors import PrunegridError
from prunegrid.common.source_code import LIBRARY

SNAKEFILE = LIBRARY.parent.parent / "Snakefile"


def command(
    study: str,
    files: Sequence[Path] = (),
    values: Sequence[str] = (),
    cores: int | None = None,
    memory_mb: int | None = None,
) -> list[str]:
    """Return Snakemake's command line for a study's table.

    Args:
        files, values: of the config, see `prunegrid.commands.cli_config`.
        cores: of all jobs together; None for as many as this process may use.
        memory_mb: of all jobs together; None for what the machine has.
    """
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    words += ["--cores", str(cores or machine.cores()), "--logger", "prunegrid"]
    words += ["--resources", f"mem_mb={memory_mb}"] if memory_mb else []
    words += ["--configfile", *map(str, files)] if files else []
    words += ["--config", *values] if values else []
    return [*words, "--", f"results/{study}.parquet"]


def run_study(study: str, words: Sequence[str]) -> int:
    """Run a command line of `command`; print the table; return the exit status."""
    began = time.monotonic()
    status = subprocess.run(words, check=False).returncode
    try:
        print("", *lines(study, Path("results")), sep="\n")
    except PrunegridError:
        return status or 1  # Snakemake has said why there is no table
    minutes, seconds = divmod(round(time.monotonic() - began), 60)
    print(f"took {minutes} min {seconds:02} s")
    print(f"next: prunegrid verify results/{study}.parquet  (recompute what the table says)")
    return status
