"""A process with torch and its like imported, which runs the steps of pipelines under test.

Each step, and Snakemake itself, stays a process of its own, forked from the warm one; what is left
out is importing the same packages again, which is most of what a tiny step takes. A run whose
environment differs in what those packages read starts cold, as one does that is killed on purpose.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
_servers: list[subprocess.Popen] = []


@functools.cache
def started() -> str:
    """Return the socket of this process's warm one, after starting it."""
    folder = tempfile.mkdtemp(prefix="warm")
    place = f"{folder}/socket"
    log = open(f"{folder}/log", "wb")  # noqa: SIM115 - the server's
    server = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), place],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(HERE)},
    )
    while not Path(f"{place}.environment").exists():
        assert server.poll() is None, Path(f"{folder}/log").read_text()
        time.sleep(0.05)
    _servers.append(server)  # it ends with its standard input, which ends with this process
    return place


def environment(library: Path) -> dict[str, str]:
    """Return what the environment of a run with this library needs to be warm.

    What is imported is compiled once, as Python does where nothing forbids it.
    """
    path = f"{HERE}{os.pathsep}{library}"
    return {"PRUNEGRID_WARM": started(), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""}
