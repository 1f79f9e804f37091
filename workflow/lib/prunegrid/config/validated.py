"""The validated config: the input of everything that plans a run."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.common import precision


@dataclass(frozen=True)
class Config:
    """A validated config.

    Attributes:
        seed, threads, device, dtype, compute_dtype, memory, training, keep_weights: the keys beside
            the sections.
        sections: {section: {name: profile}}.
        base: the folder that relative paths start from.
        broken: (section, name) of profiles that are written but not valid; none in a whole config.
            While a config is checked, `sections` hold what is valid of them, if that is enough.
    """

    seed: int
    threads: int
    device: str
    dtype: str
    compute_dtype: str
    memory: dict[str, Any]
    training: dict[str, Any]
    keep_weights: str
    sections: dict[str, dict[str, Any]]
    base: Path
    broken: frozenset[tuple[str, str]] = frozenset()

    def is_broken(self, section: str, name: str | None) -> bool:
        """Return whether a profile is written but not valid."""
        return (section, name) in self.broken

    def profile(self, section: str, name: str) -> Any:
        """Return the named profile of a section."""
        return self.sections[section][name]

    def seed_of(self, seed: int | None) -> int:
        """Return the seed of a cell: its own, or the config's."""
        return self.seed if seed is None else seed

    def on(self, device: str, compute_dtype: str) -> Config:
        """Return the same config for another device and precision."""
        return dataclasses.replace(self, device=device, compute_dtype=compute_dtype)

    def leaves_open(self) -> bool:
        """Return whether the device decides what some step computes in."""
        open_to_all = any(p.autocast == precision.AUTO for p in self.sections["finetune"].values())
        return self.compute_dtype == precision.AUTO and (open_to_all or self.dtype == "bfloat16")

    def require_resolved(self) -> None:
        """Check that this machine can settle what the config leaves to the device.

        Raises:
            PrunegridError: it cannot see the device.
        """
        if self.leaves_open():
            _ = self.resolved_dtype

    @functools.cached_property
    def resolved_dtype(self) -> str:
        """Return what products are computed in if the config leaves it open: bfloat16 or float32.

        Raises:
            PrunegridError: it is auto, and the device cannot be seen here.
        """
        return precision.resolve(self.compute_dtype, self.device)
