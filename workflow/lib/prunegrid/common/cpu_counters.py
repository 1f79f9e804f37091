"""What else the machine does while something is timed, by the kernel's own counters.

Linux counts them in ticks of 10 ms. Elsewhere, and where they cannot be read, they are None.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
# Columns of a CPU in /proc/stat that say it worked: user, nice, system, irq, softirq.
_WORKED, _STOLEN = (1, 2, 3, 6, 7), 8


@dataclass(frozen=True)
class Reading:
    """Counters at one time.

    Attributes:
        clock: seconds.
        cpu: CPU seconds of this process, all its threads.
        busy: CPU seconds of all processes, on the CPUs that this one may use; or None.
        stolen: seconds that other virtual machines had of these CPUs; or None.
        throttled: how often the cgroup's quota stopped this process; or None.
    """

    clock: float
    cpu: float
    busy: float | None
    stolen: float | None
    throttled: int | None


class Machine:
    """Reads the counters.

    Args:
        proc, cgroups: where the kernel shows them.
    """

    def __init__(self, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
        self.proc, self.quota = proc, _quota(proc, cgroups)
        self.cpus = usable_cpus()

    @property
    def capacity(self) -> int:
        """How many CPUs this process may use."""
        return len(self.cpus)

    def before(self) -> Reading:
        """Return a reading whose clock is taken last, so that reading costs the work nothing."""
        counters = self._counters()
        return Reading(time.perf_counter(), time.process_time(), *counters)

    def after(self) -> Reading:
        """Return a reading whose clock is taken first."""
        clock, cpu = time.perf_counter(), time.process_time()
        return Reading(clock, cpu, *self._counters())

    def _counters(self) -> tuple[float | None, float | None, int | None]:
        return (*self._stat(), self._throttled())

    def _stat(self) -> tuple[float | None, float | None]:
        try:
            lines = (self.proc / "stat").read_text().splitlines()
            found = [line.split() for line in lines]
            of_cpus = [f for f in found if f[0][:3] == "cpu" and f[0][3:] in self.cpus]
            if not of_cpus:
                return None, None
            tick = os.sysconf("SC_CLK_TCK")
            busy = sum(int(f[column]) for f in of_cpus for column in _WORKED)
            return busy / tick, sum(int(f[_STOLEN]) for f in of_cpus) / tick
        except (OSError, ValueError, IndexError):
            return None, None

    def _throttled(self) -> int | None:
        try:
            facts = dict(line.split() for line in self.quota.read_text().splitlines())
            return int(facts["nr_throttled"])
        except (AttributeError, OSError, ValueError, KeyError):
            return None


def usable_cpus() -> frozenset[str]:
    """Return the numbers of the CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(map(str, os.sched_getaffinity(0)))
    return frozenset(map(str, range(os.cpu_count() or 1)))


def _quota(proc: Path, cgroups: Path) -> Path | None:
    """Return the cpu.stat of this process' cgroup, of either version; None where there is none."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounts = [cgroups / name for name in (controllers, "cpu", "") if name or not controllers]
        # In a container the path may be that of the host, which is not seen there.
        for base in mounts:
            for path in (base / place.lstrip("/") / "cpu.stat", base / "cpu.stat"):
                if path.is_file():
                    return path
    return None
