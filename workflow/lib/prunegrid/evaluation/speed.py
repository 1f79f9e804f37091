"""The time of running a checkpoint: models of one process take turns, each with its clock.

A turn is one repetition of one model's work. Models take one turn in each round. The order of a
round is that of the Thue–Morse sequence, so that neither a drift nor a neighbour who comes at equal
intervals meets one model more than another. Only turns of one job are compared.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tqdm.auto import tqdm

from prunegrid.common import timing_guard
from prunegrid.common.cpu_counters import Machine, Reading
from prunegrid.evaluation import energy

log = logging.getLogger(__name__)

CELL = "cell"


class Work(NamedTuple):
    """The work of one model in a turn.

    Attributes:
        run: does it; returns the seconds of each phase.
        tokens: {phase: tokens that go through the model}.
    """

    run: Callable[[], dict[str, float]]
    tokens: Mapping[str, int]


class Turn(NamedTuple):
    """One repetition of one model; None where a counter cannot be read.

    Attributes:
        model: its name.
        round: in which all models have one turn.
        seconds: {phase: seconds of the clock}.
        clock: seconds of the turn.
        cpu: CPU seconds of this process in it, all threads.
        others: CPU seconds of other processes on the CPUs that this one may use.
        stolen: seconds that other virtual machines had of them.
        throttled: how often a cgroup's quota stopped this process.
        joules: its energy.
    """

    model: str
    round: int
    seconds: dict[str, float]
    clock: float
    cpu: float
    others: float | None
    stolen: float | None
    throttled: int | None
    joules: float | None


def measure(
    works: Mapping[str, Work], settings: Mapping, device: str, machine: Machine | None = None
) -> tuple[list[Turn], str]:
    """Return the turns that count, round by round, and how energy was measured.

    Args:
        works: by the name of the model, in the order of the first round.
        settings: warmup and repetitions: rounds that do not count, and that do.
        device: whose energy is measured.
        machine: whose counters are read; this one by default.
    """
    machine, meter = machine or Machine(), energy.meter(device)
    turns = []
    warmup = settings["warmup"]
    total = warmup + settings["repetitions"]
    for number in tqdm(range(total), disable=None, unit="round"):
        for name in reversed(works) if is_reversed(number) else works:
            before, joules = machine.before(), meter.joules()
            with timing_guard.running("efficiency"):
                seconds = works[name].run()
            after = machine.after()
            counts = _counts(before, after) | {"joules": _passed(joules, meter.joules())}
            shown = ", ".join(f"{phase} {s:.3f} s" for phase, s in seconds.items())
            log.info("round %d of %d: %s: %s", number + 1, total, name, shown)
            if number >= warmup:
                turns.append(Turn(name, number - warmup, seconds, **counts))
    return turns, meter.method


def is_reversed(number: int) -> bool:
    """Return whether a round has the other order: no, yes, yes, no, yes, no, no, yes, …"""
    return number.bit_count() % 2 == 1


def _counts(before: Reading, after: Reading) -> dict[str, Any]:
    """Return clock, cpu, others, stolen and throttled of a turn."""
    counts = {
        fact: _passed(getattr(before, fact), getattr(after, fact))
        for fact in ("clock", "cpu", "busy", "stolen", "throttled")
    }
    busy = counts.pop("busy")
    return counts | {"others": None if busy is None else busy - counts["cpu"]}


def _passed(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def of_model(turns: Sequence[Turn], name: str) -> list[Turn]:
    """Return the turns of one model, in the order of the rounds."""
    return [turn for turn in turns if turn.model == name]


def summary(turns: Sequence[Turn], tokens: Mapping[str, int]) -> dict[str, Any]:
    """Return medians and quartiles of the turns of one model.

    Args:
        tokens: {phase: tokens of a turn}.

    Returns:
        {prefill_seconds, prefill_tokens_per_second, decode_tokens_per_second: {median, q1, q3},
        turn_seconds, turn_cpu_seconds: medians, energy_joules: mean of a turn}. None are the speeds
        of a phase that the work does not have, and joules that could not be measured.
    """
    facts: dict[str, Any] = {
        "prefill_seconds": quartiles([turn.seconds["prefill"] for turn in turns])
    }
    for phase in ("prefill", "decode"):
        speeds = [tokens[phase] / turn.seconds[phase] for turn in turns if phase in turn.seconds]
        facts[f"{phase}_tokens_per_second"] = quartiles(speeds) if speeds else None
    joules = [turn.joules for turn in turns]
    return facts | {
        "turn_seconds": statistics.median(turn.clock for turn in turns),
        "turn_cpu_seconds": statistics.median(turn.cpu for turn in turns),
        "energy_joules": None if None in joules else sum(joules) / len(joules),
    }


def repetitions(turns: Sequence[Turn]) -> dict[str, list[float]]:
    """Return {phase_seconds: [...]} of one model's turns."""
    return {
        f"{phase}_seconds": [turn.seconds[phase] for turn in turns] for phase in turns[0].seconds
    }


def quartiles(values: list[float]) -> dict[str, float]:
    """Return median, q1 and q3 (inclusive method; all equal for one value)."""
    if len(values) == 1:
        return {"median": values[0], "q1": values[0], "q3": values[0]}
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": low, "q3": high}
