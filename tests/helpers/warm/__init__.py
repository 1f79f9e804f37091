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
QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
_servers: list[subprocess.Popen] = []


def environment(library: Path, **more: str) -> dict[str, str]:
    """Return what the environment of a run with this library needs to be warm, and `more`.

    What is imported is compiled once, as Python does where nothing forbids it.

    Args:
        more: variables of the run; where imported packages read one, it has a warm process of its
            own, which costs as much as two or three cold steps.
    """
    path = f"{HERE}{os.pathsep}{library}"
    place = started(tuple(sorted(more.items())))
    return {"PRUNEGRID_WARM": place, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "", **more}


@functools.cache
def started(more: tuple[tuple[str, str], ...]) -> str:
    """Return the socket of the warm process with these variables, after starting it."""
    folder = tempfile.mkdtemp(prefix="warm")
    place = f"{folder}/socket"
    with open(f"{folder}/log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, str(HERE / "warm_server.py"), place],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, **QUIET, "PYTHONPATH": str(HERE), **dict(more)},
        )
    _servers.append(server)  # it ends with its standard input, which ends with this process
    while not Path(f"{place}.environment").exists():
        assert server.poll() is None, Path(f"{folder}/log").read_text()
        time.sleep(0.05)
    return place
