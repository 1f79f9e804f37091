"""CPU seconds and peak memory of one piece of work; used by both sides, whatever their packages."""

from __future__ import annotations

import json
import re
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """Return what `work()` took: {cpu_s, wall_s, before_mb, peak_mb}.

    CPU seconds are those of all threads of this process. The peak is the largest resident memory
    while the work ran, everything that was loaded before it included.
    """
    exact = _forget_peak()
    before = _memory_mb("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {
        "cpu_s": cpu,
        "wall_s": wall,
        "before_mb": before,
        "peak_mb": _memory_mb("VmHWM") if exact else _largest_mb(),
    }


def _forget_peak() -> bool:
    """Start the peak again from what is resident now; False where the system cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return STATUS.exists()


def _memory_mb(field: str) -> float:
    if not STATUS.exists():
        return _largest_mb()
    found = re.search(rf"^{field}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else _largest_mb()


def _largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def save(path: str | Path, facts: dict[str, Any]) -> None:
    """Write what was measured as JSON."""
    Path(path).write_text(json.dumps(facts, indent=1, sort_keys=True))
