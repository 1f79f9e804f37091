"""What this process may use of its machine: cores and memory.

Affinity and control groups (containers, batch systems) may leave less than the machine has. A limit
of a group holds for all groups below it, so each is looked for from the own group up to the root.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

SHARE = 0.8  # of what is available: the rest is for the page cache and for what others start
PROC, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def cores(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Return how many cores this process may use, at least 1.

    Args:
        proc: the file that names this process's control groups.
        groups: where they are mounted.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quotas = [_quota(folder) for folder in _folders(proc, groups, "cpu")]
    return max(1, math.floor(min([count, *quotas])))


def memory_mb(proc: Path = PROC, groups: Path = GROUPS) -> int:
    """Return the megabytes that jobs may use together: SHARE of what is available here."""
    free = [psutil.virtual_memory().available]
    free += [_free(folder) for folder in _folders(proc, groups, "memory")]
    return int(SHARE * min(free) / 1e6)


def _folders(proc: Path, groups: Path, controller: str) -> list[Path]:
    """Return the folders of this process's groups that limit one kind of thing, innermost first."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        _, names, place = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = groups / names if names else groups
        inner = root / place.lstrip("/")
        found += [path for path in (inner, *inner.parents) if path.is_relative_to(root)]
    return found


def _number(path: Path) -> float:
    """Return the number in a file of a control group; infinity where there is no limit."""
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
    """Return the bytes that a group may still use; what it holds of files can be given back."""
    limit = min(_number(folder / "memory.max"), _number(folder / "memory.limit_in_bytes"))
    if math.isinf(limit):
        return math.inf
    used = min(_number(folder / "memory.current"), _number(folder / "memory.usage_in_bytes"))
    return limit - (0.0 if math.isinf(used) else max(0.0, used - _files(folder)))


def main() -> None:
    """Print how many cores this process may use, for Makefiles."""
    print(cores())


def _files(folder: Path) -> float:
    """Return the bytes of a group's page cache that is not in use."""
    try:
        lines = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    facts = dict(line.split() for line in lines)
    return float(facts.get("inactive_file", facts.get("total_inactive_file", 0)))


if __name__ == "__main__":
    main()
