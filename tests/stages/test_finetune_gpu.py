"""On CUDA: each strategy learns, keeps its zeros, and loads again on the CPU."""

from __future__ import annotations

import pytest
import torch

# `make gpu-check` runs this where little more than torch is installed.
for package in ("pandas", "pyarrow", "peft", "bitsandbytes"):
    pytest.importorskip(package)

from prunegrid.models import masked_lora, open_checkpoint, split_checkpoint  # noqa: E402
from prunegrid.stages import efficiency, finetune, predictions  # noqa: E402
from tests.helpers import tiny  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
DEVICE = "cuda:0"


def tune(tmp_path, strategy, kind, **changes):
    parent = tiny.artifact(tmp_path / "parent", kind, "2:4")
    data = tiny.data(tmp_path / "data")
    out = tmp_path / "out"
    out.mkdir()
    settings = tiny.finetune(strategy, epochs=4, learning_rate=1e-2, **changes)
    record = finetune.run(settings, {"weights": parent, "data": data}, out, tiny.job(DEVICE))
    tiny.finish(out, record["weights"])
    return record, out, data


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
@pytest.mark.parametrize("autocast", ["float32", "bfloat16"])
@pytest.mark.parametrize("strategy", ["full", "lora", "qlora"])
def test_learns_and_keeps_zeros(tmp_path, strategy, kind, autocast):
    record, out, _ = tune(tmp_path, strategy, kind, autocast=autocast)
    facts, train = record["weights"], record["train"]
    assert train["last_loss"] < 0.9 * train["first_loss"]
    assert facts["nm_valid"] is True and facts["sparsity_effective"] >= 0.5
    assert train["peak_memory_bytes"] > 0
    for device in ("cpu", DEVICE):
        assert open_checkpoint.load(out, device).record == facts


@pytest.mark.parametrize("packing", ["nf4", "int8"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_qlora(tmp_path, packing, checkpointing):
    record, out, _ = tune(
        tmp_path, "qlora", "llama", quantization=packing, dropout=0.1,
        gradient_checkpointing=checkpointing, autocast="bfloat16",
    )  # fmt: skip
    assert record["train"]["last_loss"] < record["train"]["first_loss"]
    assert record["weights"]["precision"] == packing
    ids = torch.randint(3, 40, (2, 9))
    logits = []
    for device in ("cpu", DEVICE):
        model = open_checkpoint.load(out, device).model
        with torch.no_grad():
            logits.append(model(input_ids=ids.to(device)).logits.cpu())
    assert torch.allclose(*logits, atol=1e-2)
    assert set(masked_lora.layers(model)) and split_checkpoint.split_tensors(model)["masks"]


def test_generates_and_is_timed(tmp_path):
    record, out, data = tune(tmp_path, "qlora", "llama")
    (tmp_path / "p").mkdir()
    parents = {"weights": out, "data": data}
    found = predictions.run(tiny.generation(), parents, tmp_path / "p", tiny.job(DEVICE))
    assert found["weights"] == record["weights"] and found["rows"] == 24
    settings = {"warmup": 1, "repetitions": 3, "prompt_tokens": 8, "new_tokens": 4, "batch_size": 2}
    settings |= {"cache_dequantized": False, "sizes": False, "packed": None}
    (tmp_path / "e").mkdir()
    timed = efficiency.run(settings, {"weights": out}, tmp_path / "e", tiny.job(DEVICE))
    assert timed["peak_memory_bytes"] > 0 and timed["device"] != "cpu"
