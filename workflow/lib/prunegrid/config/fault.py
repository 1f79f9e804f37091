"""Faults of a config: where each is, and what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from prunegrid.common import harness_files
from prunegrid.common.errors import nearest
from prunegrid.config.validated import Config


@dataclass(frozen=True)
class Fault:
    """A fault: its keys below those of the checked profile, and a sentence without a subject."""

    keys: tuple
    text: str


class GridError(Exception):
    """All faults of one study's grid."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{f.keys} {f.text}" for f in faults))


def below(keys: tuple, faults: Iterable[Fault]) -> Iterator[Fault]:
    """Yield faults with keys put before their own."""
    for fault in faults:
        yield Fault((*keys, *fault.keys), fault.text)


def unknown(config: Config, keys: tuple, section: str, name: str | None) -> Iterator[Fault]:
    """Yield a fault if a section lacks the profile that a key names; None names none.

    A profile that is written but not valid has faults of its own, so its users have none.
    """
    if name is None or name in config.sections[section] or (section, name) in config.broken:
        return
    hint = nearest(name, config.sections[section])
    if section in ("models", "datasets") and "/" in name:
        hint += f'; define it: {section}: {{a-name: {{source: "hf:{name}"}}}}'
    if section == "tasks" and (lines := harness_files.lines_for(name)):
        hint += "; to define it, write\n" + "\n".join(f"      {line}" for line in lines)
    yield Fault(keys, f"is '{name}', which is not in `{section}`; {hint}")
