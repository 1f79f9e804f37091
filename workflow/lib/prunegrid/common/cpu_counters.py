"""Counters of the kernel for other work on the machine while something is timed.

Linux counts in ticks of 10 ms. A counter that cannot be read is None.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from prunegrid.common import machine

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
        throttled: how often a cgroup's quota stopped this process; or None.
    """

    clock: float
    cpu: float
    busy: float | None
    stolen: float | None
    throttled: int | None


class Machine:
    """A machine whose counters are read.

    Args:
        proc, cgroups: where the kernel shows them.

    Attributes:
        quota: CPUs that this process's cgroups may use at a time; infinity for no limit.
    """

    def __init__(self, proc: Path = Path("/proc"), cgroups: Path = machine.GROUPS) -> None:
        self.proc, self.cpus = proc, frozenset(map(str, machine.usable_cpus()))
        own = proc / "self/cgroup"
        # Each group counts its own quota alone, so those above it are read too. In a container the
        # group's path may be the host's; the root's counters are seen there.
        groups = dict.fromkeys(machine.groups(own, cgroups, "cpu"))
        self._groups = [folder / "cpu.stat" for folder in groups]
        self.quota = machine.quota(own, cgroups)

    @property
    def capacity(self) -> int:
        """Return how many CPUs this process may use."""
        return len(self.cpus)

    def before(self) -> Reading:
        """Return a reading whose clock is taken last, so that reading costs the work nothing."""
        counters = (*self._stat(), self._throttled())
        return Reading(time.perf_counter(), time.process_time(), *counters)

    def after(self) -> Reading:
        """Return a reading whose clock is taken first."""
        clock, cpu = time.perf_counter(), time.process_time()
        return Reading(clock, cpu, *self._stat(), self._throttled())

    def _stat(self) -> tuple[float | None, float | None]:
        """Return (busy, stolen) seconds."""
        try:
            lines = [line.split() for line in (self.proc / "stat").read_text().splitlines()]
            cpus = [line for line in lines if line[0][:3] == "cpu" and line[0][3:] in self.cpus]
            if not cpus:
                return None, None
            tick = os.sysconf("SC_CLK_TCK")
            busy = sum(int(cpu[column]) for cpu in cpus for column in _WORKED)
            return busy / tick, sum(int(cpu[_STOLEN]) for cpu in cpus) / tick
        except (OSError, ValueError, IndexError):
            return None, None

    def _throttled(self) -> int | None:
        counts = []
        for path in self._groups:
            with contextlib.suppress(OSError, ValueError, KeyError):
                facts = dict(line.split() for line in path.read_text().splitlines())
                counts.append(int(facts["nr_throttled"]))
        return sum(counts) if counts else None
