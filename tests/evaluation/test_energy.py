"""Energy comes from counters or not at all."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from prunegrid.evaluation import energy


def package(root, name, title, joules, limit=1000.0):
    place = root / name
    place.mkdir(parents=True)
    (place / "name").write_text(f"{title}\n")
    (place / "energy_uj").write_text(f"{int(joules * 1e6)}\n")
    (place / "max_energy_range_uj").write_text(f"{int(limit * 1e6)}\n")
    return place / "energy_uj"


@pytest.fixture
def powercap(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    return tmp_path


def test_packages_are_added_and_run_over(powercap):
    first = package(powercap, "intel-rapl:0", "package-0", 100)
    second = package(powercap, "intel-rapl:1", "package-1", 990)
    package(powercap, "intel-rapl:0:0", "core", 50)
    package(powercap, "intel-rapl:2", "psys", 50)
    meter = energy.meter("cpu")
    assert (meter.method, meter.joules()) == ("rapl-packages", 0.0)
    first.write_text("130000000")
    second.write_text("5000000")
    assert meter.joules() == pytest.approx(30 + 15)
    second.write_text("6000000")
    assert meter.joules() == pytest.approx(46)


def test_without_counters_there_is_no_number(powercap, monkeypatch):
    assert energy.meter("cpu").joules() is None
    assert energy.meter("cpu").method == "none"
    unreadable = package(powercap, "intel-rapl:0", "package-0", 1)
    unreadable.unlink()
    unreadable.mkdir()  # as unreadable as a file of root's, for root too
    assert energy.meter("cpu").method == "none"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy.meter("cuda:0").method == "none"


def test_a_counter_that_fails_later_leaves_none(powercap):
    counter = package(powercap, "intel-rapl:0", "package-0", 1)
    meter = energy.meter("cpu")
    assert meter.joules() == 0.0
    counter.unlink()
    assert meter.joules() is None and meter.method == "none"
    assert meter.joules() is None


def test_a_counter_that_is_reset_leaves_none():
    values = iter([[5.0], [3.0]])
    meter = energy.Meter("nvml-device", lambda: next(values))
    assert meter.joules() is None and meter.method == "none"


def test_the_gpu_is_found_by_its_uuid(monkeypatch):
    asked = []
    readings = iter([7000, 9500])
    fake = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: asked.append(uuid) or "handle",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(readings),
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    properties = SimpleNamespace(uuid="1234-abcd")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    meter = energy.meter("cuda:0")
    assert (meter.method, meter.joules()) == ("nvml-device", 2.5)
    assert asked == ["GPU-1234-abcd"]
