"""Neighbours, throttled processors and quotas, played turn by turn: no row claims a falsehood."""

from __future__ import annotations

import math
import random

import pytest

from prunegrid.common import machine
from prunegrid.common.cpu_counters import Machine
from prunegrid.evaluation import disturbance, speed_ratio
from tests.helpers.timing import FakeMachine, measured

ROUNDS = {"warmup": 1, "repetitions": 12}
TURNS = 26
CAPACITY = FakeMachine.capacity


def judged(costs, rounds=ROUNDS, **named):
    """Return (why the timing is disturbed, what its pairs say of the cell's speed)."""
    turns = measured(costs, rounds)
    reasons = disturbance.reasons(turns, CAPACITY, "cpu", **named)
    return " / ".join(reasons), speed_ratio.ratios(turns, "cell", "dense")["decode"]


def slowed(busy, factor=1.4, share=0.9, blind=False, noise=0.002, seed=0):
    """Return the costs of two equal models where some turns meet a neighbour.

    Args:
        busy: whether the neighbour runs in a turn, by its number.
        factor: how much longer such a turn takes.
        share: of a CPU that the neighbour has then.
        blind: the kernel shows nothing of it.
    """
    draw = random.Random(seed)

    def costs(name, number):
        seconds = (factor if busy(number) else 1.0) * math.exp(draw.gauss(0, noise))
        taken = 0.0 if blind or not busy(number) else share * seconds
        return {"seconds": seconds, "neighbour": taken}

    return costs


def claims_nothing(costs, rounds=ROUNDS):
    """Return whether the row says that it was disturbed, or calls equal models equal."""
    reasons, ratio = judged(costs, rounds)
    return bool(reasons) or ratio["verdict"] == "not distinguishable"


@pytest.mark.parametrize("start", range(0, TURNS, 3))
@pytest.mark.parametrize("blind", [False, True])
def test_a_neighbour_who_starts_or_ends_in_the_run_makes_no_model_faster(start, blind):
    for seed in range(5):
        assert claims_nothing(slowed(lambda n: n >= start, blind=blind, seed=seed))
        assert claims_nothing(slowed(lambda n: n < start, blind=blind, seed=seed))


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("period", [2, 3, 4, 5, 6, 8])
def test_a_neighbour_at_equal_intervals_makes_no_model_faster(period, blind):
    """Under ABBA ABBA … one of period 4 meets the same model each time."""

    def at_intervals(phase, long):
        return lambda number: (number + phase) % period < long

    for phase in range(period):
        for long in range(1, period):
            assert claims_nothing(slowed(at_intervals(phase, long), blind=blind))


def test_a_neighbour_in_a_part_of_the_run_is_told():
    """The last fifth, of which the whole run shows 9%."""
    reasons, _ = judged(slowed(lambda n: n >= 21, factor=1.0))
    assert "other processes took 1" in reasons
    assert judged(slowed(lambda n: n >= 25, factor=1.0))[0] == ""


@pytest.mark.parametrize("victim", ["dense", "cell"])
def test_a_neighbour_beside_one_model_alone_is_told(victim):
    def costs(name, number):
        return {"seconds": 1.0, "neighbour": 0.3 * (name == victim)}

    reasons, _ = judged(costs)
    assert "other processes took" in reasons


@pytest.mark.parametrize("fact,reason", [("stolen", "virtual machines"), ("cpu", "waited")])
def test_every_share_is_judged_in_parts(fact, reason):
    def costs(name, number):
        late = number >= 20
        return {"seconds": 1.0, fact: {"stolen": 0.12 * late, "cpu": 1 - 0.25 * late}[fact]}

    assert reason in judged(costs)[0]


def falling(at, depth):
    """Return the costs of a processor whose clock falls by `depth` at a turn."""
    draw = random.Random(1)

    def costs(name, number):
        rate = 1 - depth * (number >= at)
        return {"seconds": math.exp(draw.gauss(0, 0.002)) / rate}

    return costs


@pytest.mark.parametrize("at", [10, 14, 17])
def test_a_processor_that_throttles_is_told_though_it_waits_for_nobody(at):
    reasons, ratio = judged(falling(at, 0.25))
    assert "in the second half of the run" in reasons
    assert ratio["verdict"] == "not distinguishable"


@pytest.mark.parametrize("at", range(2, TURNS))
@pytest.mark.parametrize("depth", [0.05, 0.2, 0.5])
def test_whenever_the_clock_falls_no_model_becomes_faster_by_it(at, depth):
    assert claims_nothing(falling(at, depth))


@pytest.mark.parametrize("slope", [0.002, 0.01, 0.05])
def test_a_steady_drift_makes_no_model_faster(slope):
    draw = random.Random(2)

    def costs(name, number):
        return {"seconds": (1 + slope * number) * math.exp(draw.gauss(0, 0.002))}

    assert claims_nothing(costs)


def test_a_machine_that_warms_up_is_told():
    """Faster is as suspicious as slower."""
    reasons, _ = judged(lambda name, number: {"seconds": 2.0 if number < 13 else 1.5})
    assert "-25% in the second half" in reasons


def test_one_slow_turn_in_each_half_is_no_drift():
    found, _ = judged(lambda name, number: {"seconds": 3.0 if number in (6, 20) else 1.0})
    assert found == ""


def test_too_few_rounds_have_no_halves():
    few = {"warmup": 0, "repetitions": 3}
    costs = slowed(lambda n: n >= 3, factor=1.15, blind=True)
    assert judged(costs, few)[0] == ""


@pytest.mark.parametrize("quota,told", [(0.5, True), (0.99, True), (1.0, False), (math.inf, False)])
def test_less_than_a_core_is_told_whatever_was_counted(quota, told):
    """Half a core is given in whole slices: short turns may meet none of the pauses."""
    reasons, _ = judged(lambda name, number: {"seconds": 0.02}, quota=quota)
    assert ("of a CPU" in reasons) == told
    cuda = disturbance.reasons(measured(lambda *_: {"seconds": 0.02}), 2, "cuda:0", quota)
    assert cuda == []


def container(folder, groups, cgroup="0::/pod/box\n"):
    """Write control groups {folder: {file: text}}; return the machine that reads them."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(cgroup)
    for place, files in groups.items():
        (folder / "groups" / place).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / "groups" / place / name).write_text(text)
    return Machine(folder / "proc", folder / "groups")


STAT = "nr_periods 90\nnr_throttled {}\nthrottled_usec 900\n"


@pytest.mark.parametrize(
    "groups,throttled,quota",
    [
        # The quota is the pod's, and its box has counters of its own that stay 0.
        (
            {"pod": {"cpu.stat": STAT.format(7), "cpu.max": "50000 100000"},
             "pod/box": {"cpu.stat": STAT.format(0), "cpu.max": "max 100000"}},
            7, 0.5,
        ),
        # The box's group does not control CPUs: it shows usage alone.
        (
            {"pod": {"cpu.stat": STAT.format(3), "cpu.max": "150000 100000"},
             "pod/box": {"cpu.stat": "usage_usec 5\n"}},
            3, 1.5,
        ),
        ({"pod/box": {"cpu.stat": STAT.format(2), "cpu.max": "25000 50000"}}, 2, 0.5),
        ({"pod/box": {}}, None, math.inf),
    ],
)  # fmt: skip
def test_quotas_of_all_groups_above_count(tmp_path, groups, throttled, quota):
    found = container(tmp_path, groups)
    assert found.before().throttled == throttled and found.quota == quota
    own = tmp_path / "proc/self/cgroup"
    assert machine.quota(own, tmp_path / "groups") == quota


def test_the_older_kind_of_groups_has_quotas_too(tmp_path):
    files = {"cpu.stat": "nr_throttled 4\n", "cpu.cfs_quota_us": "50000"}
    files["cpu.cfs_period_us"] = "100000"
    found = container(tmp_path, {"cpu/pod/box": files}, "3:cpu,cpuacct:/pod/box\n")
    assert found.before().throttled == 4 and found.quota == 0.5
