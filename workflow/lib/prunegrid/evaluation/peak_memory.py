"""The peak memory of one model, measured in a process of its own.

`python -m prunegrid.evaluation.peak_memory` loads the checkpoint, compares it with its record and
does one turn's work, alone. The task comes on its standard input as JSON; its last line is the
answer.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.common.determinism import settle_torch
from prunegrid.common.device_meters import peak_memory
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.gc_pause import importing
from prunegrid.common.source_code import LIBRARY

log = logging.getLogger(__name__)


def alone(stage: str, weights: Path, settings: Mapping[str, Any], job: Any) -> int:
    """Return the peak memory in bytes of a process that only runs these weights.

    Args:
        stage: "efficiency" or "passes".
        settings: of the stage.

    Raises:
        PrunegridError: the error of the process, or that it died.
    """
    task = {"stage": stage, "weights": str(weights), "settings": dict(settings)}
    task |= {name: getattr(job, name) for name in ("device", "threads", "where", "compute_dtype")}
    path = os.pathsep.join(filter(None, [str(LIBRARY), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "prunegrid.evaluation.peak_memory"],
        input=json.dumps(task),
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        log.error("%s", done.stderr[-4000:])
        raise PrunegridError(
            f"the process that measures peak memory ended (exit code {done.returncode})",
            where=job.where,
            remedy="see the log; it may have been killed for memory: give the job more",
        ) from error
    if "bytes" in answer:
        return answer["bytes"]
    kind = AttestationError if answer.pop("kind") == "AttestationError" else PrunegridError
    raise kind(answer.pop("what"), **answer)


def main() -> None:
    """Answer the task on the standard input."""
    task = json.load(sys.stdin)
    # The answer has the last line for itself, whatever libraries print.
    answers, sys.stdout = sys.stdout, sys.stderr
    try:
        answer: dict[str, Any] = {"bytes": _measure(task)}
    except PrunegridError as error:
        answer = {key: getattr(error, key) for key in ("what", "where", "expected", "remedy")}
        answer["kind"] = type(error).__name__
    print(json.dumps(answer), file=answers, flush=True)


def _measure(task: Mapping[str, Any]) -> int:
    with importing("torch"):
        settle_torch(task["threads"])
        import torch
    with importing("prunegrid.evaluation.timed_work"):
        from prunegrid.evaluation import packed_form, timed_work
        from prunegrid.models import open_checkpoint

    settings, device, dtype = task["settings"], task["device"], task["compute_dtype"]
    folder = Path(task["weights"])
    model, _ = packed_form.load(folder, settings["packed"], device)
    if model is None:
        kept = settings["cache_dequantized"]
        model = open_checkpoint.load(folder, device, kept, compute_dtype=dtype).model
    work = timed_work.WORKS[task["stage"]](model, settings, device, task["where"])
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    work.run()
    return peak_memory(device)


if __name__ == "__main__":
    try:
        main()
    finally:
        gc.freeze()  # see `prunegrid.common.gc_pause`
