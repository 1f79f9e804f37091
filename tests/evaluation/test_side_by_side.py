"""Timing beside the untouched model: who takes turns, and what a busy machine may make it say."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from prunegrid.common import cpu_counters, file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.evaluation import disturbance, side_by_side, speed, speed_ratio, timed_work
from prunegrid.evaluation.peak_memory import alone as peak_of_a_process
from prunegrid.models import open_checkpoint, quantized
from prunegrid.models.checkpoint import write_plain
from prunegrid.stages import efficiency, passes, transform
from tests.helpers import tiny
from tests.helpers.timing import SETTINGS

pytestmark = pytest.mark.model

QUANTIZE = {"strategy": "quantize", "double_quant": True}


@pytest.fixture
def dense(tmp_path):
    return tiny.artifact(tmp_path / "dense", "llama")


def quantized_to(dense, precision):
    out = dense.with_name(precision)
    out.mkdir()
    settings = QUANTIZE | {"precision": precision}
    record = transform.run(settings, {"weights": dense}, out, tiny.job())
    tiny.finish(out, record["weights"])
    return out


def timed(weights, dense, stage=efficiency, **settings):
    out = weights.with_name("timed")
    out.mkdir()
    record = stage.run(SETTINGS | settings, {"weights": weights, "dense": dense}, out, tiny.job())
    return record, file_io.read_json(out / "efficiency.json")


@pytest.mark.parametrize(
    "stage,phases", [(efficiency, ["decode", "prefill"]), (passes, ["prefill"])]
)
def test_a_pruned_model_takes_turns_with_the_untouched_one(tmp_path, dense, stage, phases):
    pruned = tiny.artifact(tmp_path / "pruned", "llama", "2:4")
    record, stored = timed(pruned, dense, stage)
    assert record["pairs"] == 5 and sorted(record["versus"]) == ["dense"]
    names = [turn["model"] for turn in stored["turns"]]
    # The first round of the sequence 0 1 1 0 1 0 does not count.
    there, back = ["dense", "cell"], ["cell", "dense"]
    assert names == [*back, *back, *there, *back, *there]
    ratios = record["versus"]["dense"]
    assert sorted(ratios) == phases
    for phase, ratio in ratios.items():
        seconds = {
            name: [t["seconds"][phase] for t in stored["turns"] if t["model"] == name]
            for name in ("cell", "dense")
        }
        assert ratio == speed_ratio.ratio(seconds["dense"], seconds["cell"])
        assert stored["repetitions"][f"{phase}_seconds"] == seconds["cell"]


@pytest.mark.parametrize("precision", ["nf4", "int8", "bfloat16"])
def test_in_another_format_the_untouched_model_in_that_format_takes_turns_too(dense, precision):
    record, stored = timed(quantized_to(dense, precision), dense)
    assert sorted(record["versus"]) == ["dense", "dense_same_format"]
    assert {t["model"] for t in stored["turns"]} == {"dense", "dense_same_format", "cell"}
    assert record["weights"]["precision"] == precision


@pytest.mark.parametrize("precision", ["nf4", "int8", "bfloat16"])
@pytest.mark.parametrize("kept", [False, True])
def test_that_model_computes_as_the_one_that_the_pipeline_writes(dense, precision, kept):
    cell = open_checkpoint.load(quantized_to(dense, precision), "cpu", kept).model
    beside = side_by_side.in_format(dense, precision, cell, "cpu", kept)
    ids = torch.tensor([[5, 9, 33, 8]])
    with torch.inference_mode():
        assert torch.equal(cell(ids).logits, beside(ids).logits)
    packed = [m for m in beside.modules() if quantized.is_packed(m)]
    assert len(packed) == (0 if precision == "bfloat16" else 14)
    assert all(bool(m.held) == kept for m in packed)


def test_a_wrong_untouched_model_is_not_timed(tmp_path, dense):
    pruned = tiny.artifact(tmp_path / "pruned", "llama", "2:4")
    write_plain(tiny.model("llama", seed=1), None, dense, None)
    with pytest.raises(AttestationError, match="weights"):
        timed(pruned, dense)


def test_peak_memory_is_that_of_a_process_of_its_own(tmp_path, dense):
    """What this process holds does not matter; what the weights take does."""
    ballast = torch.ones(300_000_000, dtype=torch.uint8)
    small = peak_of_a_process("efficiency", dense, SETTINGS, tiny.job())
    assert len(ballast) < small < 700_000_000
    wide = AutoModelForCausalLM.from_config(config(2, 1024))  # 34 MB of weights
    large = tmp_path / "large"
    large.mkdir()
    tiny.finish(large, write_plain(wide, None, large, None).record)
    size = (large / "model.safetensors").stat().st_size
    assert size > 30_000_000
    more = peak_of_a_process("passes", large, SETTINGS, tiny.job()) - small
    assert 0.5 * size < more < 4 * size


@pytest.mark.parametrize(
    "fault,kind,match",
    [
        ("positions", PrunegridError, "at most the model's 64 positions"),
        ("weights", AttestationError, "weights"),
        ("killed", PrunegridError, "measures peak memory ended"),
    ],
)
def test_what_stops_that_process_is_told(dense, monkeypatch, fault, kind, match):
    settings = SETTINGS | ({"prompt_tokens": 62} if fault == "positions" else {})
    if fault == "weights":
        write_plain(tiny.model("llama", seed=1), None, dense, None)
    if fault == "killed":
        monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(kind, match=match):
        peak_of_a_process("efficiency", dense, settings, tiny.job())


def config(layers, width):
    return LlamaConfig(
        vocab_size=64, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64,
        tie_word_embeddings=True, bos_token_id=1, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def neighbour():
    """A process that computes for as long as the test lasts."""
    process = subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"])
    yield process
    process.kill()
    process.wait()


def compared(dense, cell, rounds):
    """Return what pairs of turns say of a cell's decoding, and what disturbed them."""
    here = cpu_counters.Machine()
    settings = SETTINGS | {"repetitions": rounds, "batch_size": 1, "prompt_tokens": 16}
    works = {
        name: timed_work.generation(model, settings, "cpu", name)
        for name, model in (("dense", dense), ("cell", cell))
    }
    turns, _ = speed.measure(works, settings, "cpu", here)
    reasons = disturbance.reasons(turns, here.capacity, "cpu")
    return speed_ratio.ratios(turns, "cell", "dense"), reasons


def test_beside_a_busy_neighbour_no_model_is_faster_than_itself(one_thread, neighbour):
    """Twenty tries: each one's interval holds 1, or the try says that it was disturbed."""
    model = AutoModelForCausalLM.from_config(config(4, 256)).eval()
    for _ in range(20):
        ratios, reasons = compared(model, model, 5)
        for ratio in ratios.values():
            assert reasons or ratio["low"] <= 1 <= ratio["high"]
    assert neighbour.poll() is None


def test_the_neighbour_is_seen(one_thread, neighbour):
    """A core that is busy all the time is more than a tenth of a few."""
    here, tick = cpu_counters.Machine(), os.sysconf("SC_CLK_TCK")
    if here.capacity > 4 or here.before().busy is None:
        pytest.skip("one busy core is little here, or the kernel does not tell")

    def used():
        fields = Path(f"/proc/{neighbour.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / tick

    before = used()
    work = speed.Work(lambda: time.sleep(0.5) or {"prefill": 0.5}, {"prefill": 1})
    turns, _ = speed.measure({"cell": work}, {"warmup": 0, "repetitions": 2}, "cpu", here)
    if used() - before < 0.6:
        pytest.skip("others leave the neighbour too little of this machine")
    assert any("other processes" in why for why in disturbance.reasons(turns, here.capacity, "cpu"))


def test_half_of_the_layers_is_found_faster(one_thread):
    model = AutoModelForCausalLM.from_config(config(8, 256)).eval()
    half = copy.deepcopy(model)
    half.model.layers = half.model.layers[:4]
    ratios, reasons = compared(model, half, 12)
    for ratio in ratios.values():
        assert reasons or (ratio["verdict"] == "faster" and 1.2 < ratio["value"] < 3)
