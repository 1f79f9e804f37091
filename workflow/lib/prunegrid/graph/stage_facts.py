"""Facts of a stage: the literals of its module, read without importing it.

DOES              its work in a word, for Snakemake's log; the stage's name by default
RULE              the rule that runs it; the stage's name by default
FITS              of a stage that asks a model: the tasks that its model may have
PACKAGES          the pinned packages that its bytes depend on, or names of STACKS
COMPUTES          True if torch's threads, the device and the precision change its bytes
METRICS           True if it scores texts; if a metric needs a model, it computes too
GROUP             the group in which a cluster runs it with others; none by default
START_SECONDS     seconds before it computes, an estimate; 6 by default
MEMORY_MB         megabytes that it takes if it reads no weights, an estimate
BYTES_A_PARAMETER bytes that it takes for each parameter of the weights it reads, an estimate
BY_BLOCK          True if it can hold a model a block at a time
MEASURES_MEMORY   True if its result is a measure of memory, which other keys leave out
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

from prunegrid.common.errors import PrunegridError
from prunegrid.common.source_code import LIBRARY, literals

MEASURE = "prunegrid.common.device_meters"

# Packages that read weights: plain ones, and those of any form.
_PLAIN = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
STACKS = {"plain weights": _PLAIN, "any weights": (*_PLAIN, "peft", "bitsandbytes")}


@dataclass(frozen=True)
class StageFacts:
    """The facts of a stage; see the module."""

    does: str
    rule: str
    packages: tuple[str, ...]
    start_seconds: float = 6
    computes: bool = False
    metrics: bool = False
    group: str | None = None
    memory_mb: float | None = None
    bytes_a_parameter: float | None = None
    by_block: bool = False
    measures_memory: bool = False

    @property
    def code(self) -> tuple[str, ...]:
        """Return the modules that count in its key beside its own."""
        return (MEASURE,) if self.measures_memory else ()


@functools.cache
def stage_facts(stage: str) -> StageFacts:
    """Return the facts of a stage.

    Raises:
        PrunegridError: there is none of that name, or its module lacks a fact.
    """
    values = {k.lower(): v for k, v in literals(f"prunegrid.stages.{stage}").items()}
    known = StageFacts.__dataclass_fields__
    facts = {"does": stage, "rule": stage}
    facts |= {k: v for k, v in values.items() if k in known}
    if "packages" in facts:
        listed = [STACKS.get(name, (name,)) for name in facts["packages"]]
        facts["packages"] = tuple(itertools.chain.from_iterable(listed))
    try:
        return StageFacts(**facts)
    except TypeError as error:
        raise PrunegridError(str(error), where=f"stages/{stage}.py") from error


@functools.cache
def stages() -> tuple[str, ...]:
    """Return the names of all stages."""
    files = (LIBRARY / "prunegrid/stages").glob("[!_]*.py")
    return tuple(sorted(file.stem for file in files))
