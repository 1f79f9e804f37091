"""Cores and memory of the machine that this process may use.

Affinity and control groups (containers, batch systems) may leave less than the machine has. A limit
of a group holds for all groups below it, so every group from the own one up to the root counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

SHARE = 0.8  # of what is available: the rest is for the page cache and for what others start
PROC, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores(proc: Path = PROC, mount: Path = GROUPS) -> int:
    """Return how many cores this process may use, at least 1.

    Args:
        proc: the file that names this process's control groups.
        mount: where they are mounted.
    """
    return max(1, math.floor(min(len(usable_cpus()), quota(proc, mount))))


def quota(proc: Path = PROC, mount: Path = GROUPS) -> float:
    """Return how many CPUs the groups of this process may use at a time; infinity for no limit.

    Args:
        proc, mount: as of `cores`.
    """
    return min([math.inf, *(_quota(folder) for folder in groups(proc, mount, "cpu"))])


def memory_mb(proc: Path = PROC, mount: Path = GROUPS) -> int:
    """Return the megabytes that jobs may use together: SHARE of what is available here."""
    import psutil  # the step's environment, which reads the groups too, may lack it

    free = [_free(folder) for folder in groups(proc, mount, "memory")]
    return int(SHARE * min([psutil.virtual_memory().available, *free]) / 1e6)


def usable_cpus() -> set[int]:
    """Return the numbers of the CPUs that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return affinity(0) if affinity else set(range(os.cpu_count() or 1))


def groups(proc: Path, mount: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's groups that limit one kind of thing, innermost first.

    Args:
        controller: "cpu" or "memory".
    """
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, names, place = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        # The first version has a mount for each set of controllers, or for each controller.
        for root in (mount / names, mount / controller) if names else (mount,):
            inner = root / place.lstrip("/")
            yield from (path for path in (inner, *inner.parents) if path.is_relative_to(root))


def _number(path: Path) -> float:
    """Return the number in a file of a control group; infinity for no limit."""
    try:
        text = path.read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError):
        return math.inf
    return math.inf if text in ("max", "-1") else float(text)


def _quota(folder: Path) -> float:
    """Return how many cores a group may use."""
    try:
        limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        limit, period = "max", "1"
    newer = math.inf if limit == "max" else float(limit) / float(period)
    older = _number(folder / "cpu.cfs_quota_us") / _number(folder / "cpu.cfs_period_us")
    return min(newer, math.inf if math.isnan(older) else older)


def _free(folder: Path) -> float:
    """Return the bytes that a group may still use, with those of its page cache."""
    limit = min(_number(folder / "memory.max"), _number(folder / "memory.limit_in_bytes"))
    if math.isinf(limit):
        return math.inf
    used = min(_number(folder / "memory.current"), _number(folder / "memory.usage_in_bytes"))
    return limit - (0.0 if math.isinf(used) else max(0.0, used - _files(folder)))


def _files(folder: Path) -> float:
    """Return the bytes of a group's page cache that is not in use."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    facts = dict(line.split() for line in lines)
    return float(facts.get("inactive_file", facts.get("total_inactive_file", 0)))


if __name__ == "__main__":
    print(cores())  # for Makefiles
