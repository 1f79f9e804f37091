"""What a timing of a tiny model is asked for, and turns under a clock of the test's own."""

from __future__ import annotations

from prunegrid.common import timing_guard
from prunegrid.common.cpu_counters import Reading
from prunegrid.evaluation import speed

SETTINGS = {
    "warmup": 1,
    "repetitions": 5,
    "prompt_tokens": 7,
    "new_tokens": 4,
    "batch_size": 2,
    "cache_dequantized": False,
    "sizes": False,
    "packed": None,
}
ROUNDS = {"warmup": 1, "repetitions": 6}
STEP = {"clock": 0.0, "cpu": 0.0, "busy": 0.0, "stolen": 0.0, "throttled": 0}


class FakeMachine:
    """A machine on which only the work of a turn takes time."""

    capacity = 2

    def __init__(self):
        self.now = dict(STEP)

    def pass_by(self, seconds, **others):
        """Let a turn of so many seconds pass, and what else is counted meanwhile."""
        cpu = others.pop("cpu", seconds)
        step = {"clock": seconds, "cpu": cpu, "busy": cpu + others.pop("neighbour", 0.0), **others}
        for fact, value in step.items():
            self.now[fact] += value

    def before(self):
        """Return the counters now."""
        return Reading(**self.now)

    after = before


def measured(costs, rounds=ROUNDS):
    """Return the turns of models; `costs` gives what a model's n-th turn of all turns costs.

    Its second argument is the number of the turn, from 0, those that do not count included.
    """
    fake, count = FakeMachine(), iter(range(10**6))

    def work(name):
        def run():
            assert timing_guard.under_way == ["efficiency"]
            cost = costs(name, next(count))
            fake.pass_by(**cost)
            return {"prefill": cost["seconds"] / 4, "decode": cost["seconds"] * 3 / 4}

        return speed.Work(run, {"prefill": 8, "decode": 3})

    turns, _ = speed.measure({n: work(n) for n in ("dense", "cell")}, rounds, "cpu", fake)
    return turns


def calm(name, number):
    """Return the cost of a turn on a calm machine: the cell is twice as fast."""
    return {"seconds": 2.0 if name == "dense" else 1.0}
