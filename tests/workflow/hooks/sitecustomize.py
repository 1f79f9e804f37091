"""Writes down what each job of a run has imported, when its process ends.

Python imports this module by itself where its folder is on PYTHONPATH. PRUNEGRID_IMPORTS names a
folder; a job's file there is JSON: node (null of a table), modules.
"""

import atexit
import json
import os
import sys
from pathlib import Path


def _write() -> None:
    job = getattr(sys.modules["__main__"], "snakemake", None)
    if hasattr(job, "params"):
        node = job.params.get("node")
        about = node and {name: node[name] for name in ("stage", "label", "settings")}
        text = json.dumps({"node": about, "modules": sorted(sys.modules)})
        Path(os.environ["PRUNEGRID_IMPORTS"], f"{os.getpid()}.json").write_text(text)


if "PRUNEGRID_IMPORTS" in os.environ:
    atexit.register(_write)
