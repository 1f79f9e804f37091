"""Costs of finished steps, from their benchmark files and manifests, and estimates from them.

An estimate comes from finished steps of the same method or strategy, else of the same stage, else
from a formula. Seconds after the start are scaled as the formula says, bytes by parameters.
"""

from __future__ import annotations

import contextlib
import csv
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.artifacts.artifact_folder import recorded
from prunegrid.common.errors import PrunegridError
from prunegrid.graph import nodes
from prunegrid.running import costs, resources
from prunegrid.running.costs import Step

# How many times the work of a finished step its time is scaled to.
FARTHEST = 30
MEBI = 2**20  # benchmark files give memory in MiB


@dataclass(frozen=True)
class Finished:
    """A finished step.

    Attributes:
        step: the facts that decide its costs.
        seconds: from its start to its end.
        memory: its peak, bytes.
        disk: bytes of its artifact.
    """

    label: str
    step: Step
    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Estimate:
    """Estimated seconds and bytes of a step; `basis` is "alike", "stage" or "formula"."""

    seconds: float
    disk: int
    basis: str


def seen(results: Path) -> Experience:
    """Return the estimates that the finished steps of a results folder give."""
    return Experience(read(results))


def read(results: Path) -> list[Finished]:
    """Return the finished steps of a results folder, without those of broken manifests."""
    broken = (PrunegridError, AttributeError, KeyError, TypeError, ValueError, ArithmeticError)
    steps = []
    for folder in sorted((results / "artifacts").glob("*/*")):
        with contextlib.suppress(*broken):  # the step that reads it reports the fault
            steps.append(_finished(results, recorded(folder)))
    return steps


def _finished(results: Path, manifest: Mapping[str, Any]) -> Finished:
    seconds, memory = float(manifest["seconds"]), int(manifest["peak_memory_bytes"])
    tsv = results / "benchmarks" / manifest["stage"] / f"{manifest['key']}.tsv"
    if tsv.exists():
        *_, row = csv.DictReader(tsv.read_text(encoding="utf-8").splitlines(), delimiter="\t")
        seconds = float(row["s"])
        with contextlib.suppress(ValueError):  # NA if the step was too short to be measured
            memory = max(memory, int(float(row["max_rss"]) * MEBI))
    disk = sum(facts["bytes"] for facts in manifest["files"].values())
    step = _step(results, manifest)
    for estimate in (resources.memory, resources.time_limit, costs.seconds):
        estimate(step)  # fails if its settings are not of its stage
    return Finished(manifest["label"], step, seconds, memory, disk)


def _step(results: Path, manifest: Mapping[str, Any]) -> Step:
    parents = {
        role: recorded(results / "artifacts" / parent["stage"] / parent["key"])
        for role, parent in manifest["parents"].items()
    }
    counts = [
        parent["record"]["weights"]["parameters"]
        for parent in parents.values()
        if parent["stage"] in resources.WEIGHTS
    ]
    if manifest["stage"] == "model":
        counts = [manifest["record"]["weights"]["parameters"]]
    drawn = parents.get("calibration", {}).get("settings")
    weights = parents.get("weights")
    is_made = weights is not None and weights["stage"] in nodes.WEIGHTS_MADE
    return Step(
        manifest["stage"],
        manifest["settings"],
        sum(counts) if counts else None,
        drawn["samples"] * drawn["length"] if drawn else 0,
        resources.rows_of(parents["data"]["record"]) if "data" in parents else None,
        any(parent["stage"] == "prune" for parent in manifest["lineage"]),
        "cpu" if manifest["device"] == "cpu" else "cuda",
        manifest["threads"] * manifest["settings"].get("processes", 1),
        precision=costs.precision_of(weights["settings"]) if is_made else None,
        compute_dtype=manifest["compute_dtype"],
    )


class Experience:
    """Estimates from finished steps, or from the formula if none is alike.

    Attributes:
        pace: of the finished steps, their seconds over the formula's; 1 without any. Downloads do
            not count: a network says nothing of this machine's speed.
    """

    def __init__(self, finished: Iterable[Finished]) -> None:
        self._by_class: dict[tuple, list[Finished]] = {}
        finished = list(finished)
        here = [one for one in finished if one.step.stage not in resources.DOWNLOADS]
        formula = sum(costs.seconds(one.step) for one in here)
        self.pace = sum(one.seconds for one in here) / formula if formula else 1.0
        for one in finished:
            for name in _classes(one.step):
                self._by_class.setdefault(name, []).append(one)

    def estimate(self, step: Step, dtype_bytes: int = 4) -> Estimate:
        """Return the costs that a step is expected to have."""
        formula = costs.disk_bytes(step, dtype_bytes)
        for name, basis in zip(_classes(step), ("alike", "stage"), strict=True):
            alike = self._by_class.get(name)
            if alike and (seconds := _seconds(alike, step)) is not None:
                return Estimate(seconds, _disk(alike, basis, step, formula), basis)
        return Estimate(costs.seconds(step), formula, "formula")


def _seconds(alike: Iterable[Finished], step: Step) -> float | None:
    """Return the median of the seconds, what follows the start scaled by work and rate.

    None where the step is so much larger than all of them that they say nothing of its time.
    """
    work = costs.work(step)
    if not work:
        return statistics.median(one.seconds for one in alike)
    near = [one for one in alike if work <= FARTHEST * costs.work(one.step)]
    return statistics.median(_scaled(one, step) for one in near) if near else None


def _scaled(one: Finished, step: Step) -> float:
    # A machine may start faster than assumed; some of the time was work in any case.
    start = min(costs.start(one.step), one.seconds / 2)
    return start + (one.seconds - start) * costs.computing(step) / costs.computing(one.step)


def _disk(alike: Iterable[Finished], basis: str, step: Step, formula: int) -> int:
    """Return the median of the bytes, those of weights scaled by parameters; else the formula's."""
    if step.stage in nodes.WEIGHTS_MADE and step.parameters is not None:
        rates = [one.disk / one.step.parameters for one in alike if one.step.parameters]
        is_known = rates and basis == "alike"
        return int(step.parameters * statistics.median(rates)) if is_known else formula
    return formula if step.stage == "model" else int(statistics.median(one.disk for one in alike))


def _classes(step: Step) -> list[tuple]:
    """Return the classes of a step, the closest first."""
    return [(step.stage, step.kind or "", step.device), (step.stage, None, step.device)]


def shortfalls(finished: Iterable[Finished]) -> Iterator[tuple[Finished, str, float, float]]:
    """Yield (step, "memory" or "time", estimate, measured) of low estimates, in MB or minutes."""
    for one in finished:
        for what, estimate, measured in (
            ("memory", resources.memory(one.step), one.memory / 1e6),
            ("time", resources.time_limit(one.step), one.seconds / 60),
        ):
            if measured > estimate:
                yield one, what, estimate, measured


def tightest(finished: Iterable[Finished]) -> dict[str, tuple[int, float, float]]:
    """Return {stage: (steps, largest measured share of the estimated memory, of the time)}."""
    stages: dict[str, tuple[int, float, float]] = {}
    for one in finished:
        count, memory, time = stages.get(one.step.stage, (0, 0.0, 0.0))
        memory = max(memory, one.memory / 1e6 / resources.memory(one.step))
        time = max(time, one.seconds / 60 / resources.time_limit(one.step))
        stages[one.step.stage] = (count + 1, memory, time)
    return stages
