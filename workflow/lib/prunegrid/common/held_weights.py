"""Whether what a layer multiplies by is held in memory while it is trained; free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def holds(memory: Mapping[str, Any] | None, device: str, processes: int) -> bool:
    """Return whether adapted and packed linears hold what they multiply by while they are trained.

    On a CPU they do by default: forming it again in every pass costs time, and there is memory. On
    a GPU there is less of it. Processes that share the weights out never hold whole ones.

    Args:
        memory: `config.profiles.Memory`; None is its defaults.
        device: "cpu" or "cuda", or one such device.
        processes: that train together.
    """
    choice = (memory or {}).get("adapted", "auto")
    return processes == 1 and (device == "cpu" if choice == "auto" else choice == "hold")
