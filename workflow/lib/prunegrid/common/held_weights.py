"""Weights that adapted linears hold in memory during training; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def holds(memory: Mapping[str, Any] | None, device: str, processes: int) -> bool:
    """Return whether adapted and packed linears hold their whole weights during training.

    By default they do on a CPU, which has the memory: forming them again in every pass costs time.
    They never do if several `processes` share the weights out.

    Args:
        memory: `config.profiles.Memory`; None is its defaults.
        device: "cpu" or "cuda", or one such device.
    """
    choice = (memory or {}).get("adapted", "auto")
    return processes == 1 and (device == "cpu" if choice == "auto" else choice == "hold")
