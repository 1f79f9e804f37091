"""Efficiency: the work is what the settings ask for, and the counts are the checkpoint's."""

from __future__ import annotations

import pytest
import torch

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation import speed, timed_work
from prunegrid.stages import efficiency
from tests.helpers import tiny
from tests.helpers.timing import SETTINGS

pytestmark = pytest.mark.model


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
def test_record(tmp_path, kind):
    weights = tiny.artifact(tmp_path / "w", kind, "2:4")
    (tmp_path / "out").mkdir()
    record = efficiency.run(SETTINGS, {"weights": weights}, tmp_path / "out", tiny.job())
    stored = file_io.read_json(tmp_path / "out" / "efficiency.json")
    assert {name: len(values) for name, values in stored["repetitions"].items()} == {
        "prefill_seconds": 5,
        "decode_seconds": 5,
    }
    for name in ("prefill_seconds", "prefill_tokens_per_second", "decode_tokens_per_second"):
        facts = record[name]
        assert 0 < facts["q1"] <= facts["median"] <= facts["q3"]
    speeds = [2 * 3 / s for s in stored["repetitions"]["decode_seconds"]]
    assert min(speeds) <= record["decode_tokens_per_second"]["median"] <= max(speeds)
    assert record["file_bytes"] == (weights / "model.safetensors").stat().st_size
    assert record["parameters"] == sum(p.numel() for p in tiny.model(kind).parameters())
    assert record["threads"] == torch.get_num_threads()
    assert record["device"] == "cpu" and record["peak_memory_bytes"] > 10**8
    assert record["weights"]["sparsity_prunable"] == 0.5
    # The untouched model has nobody beside it.
    assert record["versus"] == {} and record["pairs"] is None
    assert {turn["model"] for turn in stored["turns"]} == {"cell"}
    assert record["alone"] == "machine" and record["turn_cpu_seconds"] > 0


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
def test_the_work_is_counted(kind):
    """One pass over the prompt and one for each further token, an EOS or not."""
    model = tiny.model(kind)
    work = timed_work.generation(model, SETTINGS, "cpu", "test")
    seen = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)),
        with_kwargs=True,
    )
    speed.measure({"cell": work}, SETTINGS, "cpu")
    assert seen == ([(2, 7)] + [(2, 1)] * 3) * 6
    assert work.tokens == {"prefill": 14, "decode": 6}


def test_decoding_is_greedy_decoding():
    """The timed loop does what generate does: same cache, same tokens."""
    model = tiny.model("llama")
    ids = torch.tensor([[3, 9, 8, 7]])
    timed_work.once(model, ids, 1, "cpu")  # its cache is tried the first time
    chosen = []
    model.register_forward_hook(lambda m, a, out: chosen.append(int(out.logits[0, -1].argmax())))
    timed_work.once(model, ids, 5, "cpu")
    found, chosen[:] = list(chosen), []
    made = model.generate(ids, max_new_tokens=5, min_new_tokens=5, do_sample=False)
    assert len(found) == 5
    if 1 not in found:
        assert made[0, 4:].tolist() == found


def test_quartiles():
    assert speed.quartiles([3.0]) == {"median": 3.0, "q1": 3.0, "q3": 3.0}
    assert speed.quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == {"median": 3.0, "q1": 2.0, "q3": 4.0}


def test_more_tokens_than_positions_are_refused(tmp_path):
    weights = tiny.artifact(tmp_path / "w", "opt")
    with pytest.raises(PrunegridError, match="at most the model's 64 positions"):
        wanted = SETTINGS | {"prompt_tokens": 62}
        efficiency.run(wanted, {"weights": weights}, tmp_path, tiny.job())
