"""Turns under a clock of the test's own: their order, what is counted, what disturbs them."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from prunegrid.common import machine
from prunegrid.common.cpu_counters import Machine
from prunegrid.evaluation import disturbance
from prunegrid.evaluation import speed as timing
from tests.helpers.timing import FakeMachine, calm, measured


def test_turns_alternate_in_the_order_of_thue_and_morse():
    turns = measured(calm)
    rounds = [[t.model for t in turns if t.round == number] for number in range(6)]
    # The round that does not count is the first of the sequence 0 1 1 0 1 0 0.
    there, back = ["dense", "cell"], ["cell", "dense"]
    assert rounds == [back, back, there, back, there, there]
    assert [turn.round for turn in turns] == sorted([*range(6), *range(6)])


def test_what_a_turn_took_is_counted():
    def costs(name, number):
        return calm(name, number) | {"cpu": 0.75, "neighbour": 0.5, "stolen": 0.25, "throttled": 1}

    cell = timing.of_model(measured(costs), "cell")
    assert {(t.clock, t.cpu, t.others, t.stolen, t.throttled) for t in cell} == {
        (1.0, 0.75, 0.5, 0.25, 1)
    }
    found = timing.summary(cell, {"prefill": 8, "decode": 3})
    assert found["turn_seconds"] == 1.0 and found["turn_cpu_seconds"] == 0.75
    assert found["prefill_tokens_per_second"]["median"] == 32.0
    assert found["decode_tokens_per_second"]["median"] == 4.0
    assert found["energy_joules"] is None
    assert timing.repetitions(cell) == {"prefill_seconds": [0.25] * 6, "decode_seconds": [0.75] * 6}


def test_energy_is_that_of_a_models_own_turns(monkeypatch):
    spent = SimpleNamespace(total=0.0)
    monkeypatch.setattr(
        timing.energy,
        "meter",
        lambda device: SimpleNamespace(joules=lambda: spent.total, method="x"),
    )

    def costs(name, number):
        spent.total += {"dense": 50.0, "cell": 7.0}[name]
        return calm(name, number)

    turns = measured(costs)
    for name, joules in (("dense", 50.0), ("cell", 7.0)):
        found = timing.summary(timing.of_model(turns, name), {"prefill": 1, "decode": 1})
        assert found["energy_joules"] == joules


def told(costs, device="cpu"):
    return " / ".join(disturbance.reasons(measured(costs), FakeMachine.capacity, device))


def test_a_calm_machine_disturbs_nothing():
    assert told(calm) == ""


@pytest.mark.parametrize("speed", [0.001, 1.0, 1000.0])
@pytest.mark.parametrize(
    "extra,reason",
    [
        ({"cpu": 0.85}, "waited for a CPU in 15% of the time"),
        ({"neighbour": 0.5}, "other processes took 25% of the CPUs"),
        ({"stolen": 0.2}, "other virtual machines took 10% of the CPUs"),
    ],
)
def test_a_share_disturbs_a_slow_machine_as_a_fast_one(monkeypatch, speed, extra, reason):
    monkeypatch.setattr(disturbance, "TICK", 0.0)
    costs = {"seconds": speed} | {name: value * speed for name, value in extra.items()}
    assert reason in told(lambda name, number: dict(costs))


@pytest.mark.parametrize("extra", [{"cpu": 0.95}, {"neighbour": 0.1}, {"stolen": 0.02}])
def test_a_little_disturbs_nothing(extra):
    assert told(lambda name, number: {"seconds": 1.0, **extra}) == ""


def test_what_a_tick_may_be_off_disturbs_nothing():
    """A short turn sees a neighbour's whole tick of 10 ms or none."""
    assert told(lambda n, number: {"seconds": 1e-3, "neighbour": 0.01 * (number == 5)}) == ""


def test_more_threads_than_one_may_use_more_cpu_than_clock():
    assert told(lambda name, number: {"seconds": 1.0, "cpu": 1.9}) == ""


def test_a_quota_that_stopped_it_disturbs():
    found = told(lambda name, number: {"seconds": 1.0, "throttled": int(number == 5)})
    assert found == "a cgroup's quota stopped the process 1 times"


def test_a_neighbour_who_comes_half_way_makes_turns_scatter():
    """All counters are blind to it, as in a container that is shown none."""
    slow = told(lambda name, number: {"seconds": 2.0 if number > 7 else 1.0})
    assert "turns of the dense model scatter" in slow and "turns of the cell model" in slow
    once = told(lambda name, number: {"seconds": 2.0 if number == 8 else 1.0})
    assert once == ""


def test_on_cuda_what_the_cpu_does_says_nothing():
    assert told(lambda n, number: {"seconds": 1.0, "cpu": 0.1, "neighbour": 2.0}, "cuda:0") == ""


def kernel(folder, stat, cgroup="0::/a/b\n", cpu_stat="nr_periods 9\nnr_throttled 4\n", at="a/b"):
    """Write what the kernel shows; return the machine that reads it."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/stat").write_text(stat)
    (folder / "proc/self/cgroup").write_text(cgroup)
    (folder / "groups" / at).mkdir(parents=True)
    (folder / "groups" / at / "cpu.stat").write_text(cpu_stat)
    return Machine(folder / "proc", folder / "groups")


STAT = "cpu  999 9 9 9 9 9 9 9 0 0\ncpu0 100 20 30 7 7 1 2 50 9 9\ncpu1 1000 0 0 0 0 0 0 400 0 0\n"


@pytest.mark.parametrize("cpus,busy,stolen", [({"0"}, 153, 50), ({"0", "1"}, 1153, 450)])
def test_only_cpus_that_it_may_use_are_counted(tmp_path, monkeypatch, cpus, busy, stolen):
    monkeypatch.setattr(machine, "usable_cpus", lambda: set(map(int, cpus)))
    tick = os.sysconf("SC_CLK_TCK")
    found = kernel(tmp_path, STAT)
    for reading in (found.before(), found.after()):
        assert (reading.busy, reading.stolen) == (busy / tick, stolen / tick)
        assert reading.throttled == 4
    assert found.capacity == len(cpus)


@pytest.mark.parametrize(
    "cgroup,at",
    [
        ("3:cpuset:/x\n0::/a/b\n", "a/b"),
        ("0::/not/seen/here\n", "."),
        ("4:memory:/m\n3:cpu,cpuacct:/c\n", "cpu,cpuacct/c"),
        ("3:cpu,cpuacct:/c\n", "cpu/c"),
        ("1:cpu:/not/seen\n", "cpu"),
    ],
)
def test_the_quota_is_found_in_both_kinds_of_cgroups(tmp_path, cgroup, at):
    assert kernel(tmp_path, STAT, cgroup, at=at).before().throttled == 4


def test_where_nothing_is_shown_nothing_is_counted(tmp_path):
    reading = Machine(tmp_path, tmp_path).before()
    assert (reading.busy, reading.stolen, reading.throttled) == (None, None, None)
    assert reading.clock > 0 and reading.cpu > 0
    odd = kernel(tmp_path, "cpu0 a b\nintr\n", cpu_stat="x\n")
    assert odd.before().busy is None and odd.before().throttled is None
