"""What finished runs took: read from the benchmark files and the manifests beside them.

A step like one that is planned says more of its costs than any formula: the same method or strategy
first, else the same stage. Their seconds are scaled by the work of both, their bytes by parameters.
"""

from __future__ import annotations

import contextlib
import csv
import functools
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

MEBI = 2**20  # benchmark files give memory in MiB


@dataclass(frozen=True)
class Finished:
    """A finished step.

    Attributes:
        label: for people.
        step: what decided its costs.
        seconds: from its start to its end.
        memory: the most that it held, bytes.
        disk: bytes of its artifact.
    """

    label: str
    step: Step
    seconds: float
    memory: int
    disk: int


@dataclass(frozen=True)
class Estimate:
    """What a step is thought to take; `basis` says from what: alike, stage or formula."""

    seconds: float
    disk: int
    basis: str


def read(results: Path) -> list[Finished]:
    """Return the finished steps of a results folder; what cannot be read is left out."""
    found = []
    for folder in sorted((results / "artifacts").glob("*/*")):
        try:
            found.append(_finished(results, recorded(folder)))
        except (PrunegridError, AttributeError, KeyError, TypeError, ValueError, OverflowError):
            continue  # a broken manifest is a fault of the step that reads it
    return found


def _finished(results: Path, manifest: Mapping[str, Any]) -> Finished:
    seconds, memory = float(manifest["seconds"]), int(manifest["peak_memory_bytes"])
    tsv = results / "benchmarks" / manifest["stage"] / f"{manifest['key']}.tsv"
    if tsv.exists():
        *_, row = csv.DictReader(tsv.read_text(encoding="utf-8").splitlines(), delimiter="\t")
        seconds = float(row["s"])
        with contextlib.suppress(ValueError):  # NA where the step was too short to be looked at
            memory = max(memory, int(float(row["max_rss"]) * MEBI))
    disk = sum(facts["bytes"] for facts in manifest["files"].values())
    step = _step(results, manifest)
    for asked in (resources.memory, resources.time_limit):
        asked(step)  # fails where its settings are not of its stage
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
    return Step(
        manifest["stage"],
        manifest["settings"],
        sum(counts) if counts else None,
        drawn["samples"] * drawn["length"] if drawn else 0,
        resources.rows_of(parents["data"]) if "data" in parents else None,
        any(parent["stage"] == "prune" for parent in manifest["lineage"]),
        "cpu" if manifest["device"] == "cpu" else "cuda",
        manifest["threads"] * manifest["settings"].get("processes", 1),
        precision=_precision(parents.get("weights")),
    )


def _precision(weights: Mapping[str, Any] | None) -> str | None:
    made = weights is not None and weights["stage"] in nodes.WEIGHTS_MADE
    return costs.precision_of(weights["settings"]) if made else None


class Experience:
    """Estimates from finished steps, and from the formula where there is none alike.

    Args:
        finished: the steps.
    """

    def __init__(self, finished: Iterable[Finished]) -> None:
        self._by_class: dict[tuple, list[Finished]] = {}
        for one in finished:
            for name in _classes(one.step):
                self._by_class.setdefault(name, []).append(one)

    def estimate(self, step: Step, dtype_bytes: int = 4) -> Estimate:
        """Return what a step is thought to take."""
        for name, basis in zip(_classes(step), ("alike", "stage"), strict=True):
            if self._by_class.get(name):
                seconds = self._seconds(name, step)
                return Estimate(seconds, self._disk(name, step, dtype_bytes), basis)
        return Estimate(costs.seconds(step), costs.disk_bytes(step, dtype_bytes), "formula")

    def _seconds(self, name: tuple, step: Step) -> float:
        alike = self._by_class[name]
        if not costs.work(step):
            return statistics.median(one.seconds for one in alike)
        return costs.work(step) * self._per_operation(name)

    @functools.cache  # noqa: B019 - lives as long as one plan
    def _per_operation(self, name: tuple) -> float:
        """Return seconds an operation, starts included: they grow with the weights too."""
        return statistics.median(
            one.seconds / max(costs.work(one.step), 1.0) for one in self._by_class[name]
        )

    def _disk(self, name: tuple, step: Step, dtype_bytes: int) -> int:
        alike = self._by_class[name]
        if step.stage in nodes.WEIGHTS_MADE and step.parameters is not None:
            known = [one.disk / one.step.parameters for one in alike if one.step.parameters]
            if known and name[1] is not None:
                return int(step.parameters * statistics.median(known))
            return costs.disk_bytes(step, dtype_bytes)
        if step.stage == "model":
            return costs.disk_bytes(step, dtype_bytes)
        return int(statistics.median(one.disk for one in alike))


def _classes(step: Step) -> list[tuple]:
    """Return the classes of a step, the closest first."""
    return [(step.stage, step.kind or "", step.device), (step.stage, None, step.device)]


def shortfalls(finished: Iterable[Finished]) -> Iterator[tuple[Finished, str, float, float]]:
    """Yield (step, "memory" or "time", asked, measured) where less was asked for than was taken.

    Megabytes and minutes.
    """
    for one in finished:
        asked, measured = resources.memory(one.step), one.memory / 1e6
        if measured > asked:
            yield one, "memory", asked, measured
        limit = resources.time_limit(one.step)
        if one.seconds / 60 > limit:
            yield one, "time", limit, one.seconds / 60


def tightest(finished: Iterable[Finished]) -> dict[str, tuple[int, float, float]]:
    """Return {stage: (steps, largest measured share of the memory asked for, of the time)}."""
    found: dict[str, tuple[int, float, float]] = {}
    for one in finished:
        count, memory, time = found.get(one.step.stage, (0, 0.0, 0.0))
        memory = max(memory, one.memory / 1e6 / resources.memory(one.step))
        time = max(time, one.seconds / 60 / resources.time_limit(one.step))
        found[one.step.stage] = (count + 1, memory, time)
    return found
