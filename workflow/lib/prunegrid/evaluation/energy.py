"""The energy of a stretch of work in joules, by the machine's own counters where it has any.

docs/reference/sizes.md says what each counter leaves out. Without one the method is `none` and
there is no number: nothing is inferred from operations or nameplates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

POWERCAP = Path("/sys/class/powercap")


class Meter:
    """Counters of joules, added up from the start.

    Args:
        method: "rapl-packages", "nvml-device" or "none".
        read: returns the counters.
        ranges: at which each counter begins again at 0; none for those that never do.
    """

    def __init__(
        self, method: str, read: Callable[[], list[float]], ranges: Sequence[float] = ()
    ) -> None:
        self.method, self._read, self._ranges = method, read, ranges
        self._last = read()
        self._total = 0.0

    def joules(self) -> float | None:
        """Return the joules so far; None where nothing can be read (any more).

        Call it more often than the counters begin again: RAPL's do after some 20 minutes.
        """
        if self.method == "none":
            return None
        try:
            now = self._read()
            for i, (value, before) in enumerate(zip(now, self._last, strict=True)):
                over = self._ranges[i] if value < before and self._ranges else 0.0
                if value + over < before:
                    raise ValueError("a counter ran backwards")
                self._total += value - before + over
        except Exception as error:  # a counter's fault must not fail what is measured
            log.warning("energy cannot be read any more (%s)", error)
            self.method = "none"
            return None
        self._last = now
        return self._total


def meter(device: str) -> Meter:
    """Return the meter of a device ("cpu", "cuda:0"); its method is "none" without a counter."""
    try:
        return _nvml(device) if device.startswith("cuda") else _rapl()
    except Exception as error:  # no driver, no right to read: no number
        log.info("no energy counter (%s)", error)
        return Meter("none", list)


def _rapl() -> Meter:
    # `intel-rapl:0` is a package, `intel-rapl:0:0` a part of it; AMD's have the same names.
    places = [p for p in sorted(POWERCAP.glob("intel-rapl:*")) if p.name.count(":") == 1]
    packages = [p for p in places if (p / "name").read_text().startswith("package-")]
    if not packages:
        return Meter("none", list)
    ranges = [_joules(p / "max_energy_range_uj") for p in packages]
    return Meter("rapl-packages", lambda: [_joules(p / "energy_uj") for p in packages], ranges)


def _joules(path: Path) -> float:
    return int(path.read_text()) / 1e6


def _nvml(device: str) -> Meter:
    import pynvml
    import torch

    pynvml.nvmlInit()
    # By its UUID, as CUDA_VISIBLE_DEVICES renumbers devices for torch alone.
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
    return Meter("nvml-device", lambda: [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3])
