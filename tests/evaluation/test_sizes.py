"""Sizes of a checkpoint: of whole files that were written, with everything in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.evaluation import sizes, speed
from prunegrid.models import blocks, masked_lora, open_checkpoint
from prunegrid.models import split_checkpoint as parts
from prunegrid.models.packed import container, plain_tensors, tensor_forms
from prunegrid.stages import efficiency
from tests.helpers import tiny
from tests.helpers.timing import SETTINGS
from tests.helpers.tuning import tune

pytestmark = pytest.mark.model

HEADERS = 40_000  # of a file of a tiny model, at most
FORMS = {
    "dense_float32",
    "dense_bfloat16",
    "nf4",
    "int8",
    "packed",
    "packed_bfloat16",
    "entropy_bound",
}


def measured(tmp_path, weights):
    plain = plain_tensors.of(open_checkpoint.load(weights))
    return sizes.measure(plain, "2:4", tmp_path, "test", gzipped=False)


def by_hand(weights, model):
    """Return (prunable weights, bytes of the rest as stored)."""
    linears = {f"{name}.weight" for name in blocks.prunable(model)}
    tensors = load_file(weights / "model.safetensors")
    rest = sum(t.numel() * t.element_size() for n, t in tensors.items() if n not in linears)
    return sum(tensors[name].numel() for name in linears), rest


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
def test_sizes_are_those_of_a_hand_computation(tmp_path, kind):
    weights = tiny.artifact(tmp_path / "w", kind, "2:4")
    found = measured(tmp_path, weights)["bytes"]
    n, rest = by_hand(weights, tiny.model(kind))
    assert set(found) == FORMS
    dense = (weights / "model.safetensors").stat().st_size
    assert abs(found["dense_float32"] - dense) < 128
    zeros = n // 2
    negative = n // 2 // 8  # signs of zeros: tiny's are made by a product with a mask
    expected = {
        "dense_float32": 4 * n + rest,
        "dense_bfloat16": 2 * n + rest // 2,
        "nf4": n // 2 + n // 64 + rest,
        "int8": n + rest,
        "packed": 4 * zeros + 3 * n // 4 // 8 + negative + rest,
        "packed_bfloat16": 2 * zeros + 3 * n // 4 // 8 + negative + rest // 2,
    }
    for form, size in expected.items():
        assert -20_000 < found[form] - size < HEADERS, form
    bound = found["entropy_bound"]
    assert 4 * zeros + 0.3 * n / 8 < bound - rest + 4096 and bound <= found["packed"]
    assert found["packed"] < found["dense_float32"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["w"]


def test_a_tied_head_is_counted_once(tmp_path):
    weights = tiny.artifact(tmp_path / "w", "llama", "2:4")
    tensors = plain_tensors.of(open_checkpoint.load(weights)).tensors
    assert "lm_head.weight" not in tensors and "model.embed_tokens.weight" in tensors
    assert set(tensors) == set(load_file(weights / "model.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_weights_gain_nothing(tmp_path, dtype):
    weights = tiny.artifact(tmp_path / "w", "llama", None, dtype=dtype)
    found = measured(tmp_path, weights)
    assert found["packed_as"]["mask"] == found["packed_as"]["nm"] == 0
    name = f"dense_{str(dtype).removeprefix('torch.')}"
    assert 0 <= found["bytes"]["packed"] - found["bytes"][name] < 4096
    assert found["bytes"]["entropy_bound"] <= found["bytes"][name]


@pytest.mark.parametrize("kind,packing", [("llama", "nf4"), ("gpt2", "nf4"), ("llama", "int8")])
def test_a_quantized_base_is_merged_with_its_adapter(tmp_path, packing, kind):
    parent = tiny.artifact(tmp_path / "parent", kind, "2:4")
    _, out = tune(tmp_path, parent, "qlora", quantization=packing, targets="all-linear")
    loaded = open_checkpoint.load(out)
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        logits = loaded.model(ids).logits
    merged = plain_tensors.of(loaded)
    model = tiny.model(kind, seed=9)
    for name, linear in blocks.prunable(model).items():
        weight = merged.tensors.pop(f"{name}.weight")
        linear.weight.data = weight.t() if blocks.is_transposed(linear) else weight
        assert (weight == 0).float().mean() >= 0.5
    assert not model.load_state_dict(merged.tensors, strict=False).unexpected_keys
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, logits, atol=1e-4)
    assert masked_lora.layers(loaded.model) and parts.split_tensors(loaded.model)["masks"]


@pytest.mark.parametrize("fault", ["value", "sign", "place", "tensor", "dtype"])
def test_a_writer_that_loses_something_fails_the_job(tmp_path, monkeypatch, fault):
    weights = tiny.artifact(tmp_path / "w", "llama", "2:4")
    encode, save = tensor_forms.encode, container.save

    def loses(tensor, form):
        parts = encode(tensor, form)
        if form.kind == "nm" and fault == "value":
            parts["values"][5] = 0
        elif form.kind == "nm" and fault == "sign":
            parts.pop("signs", None)
        elif form.kind == "nm" and fault == "place":
            parts["codes"] = parts["codes"].flip(1)
        return parts

    def forgets(tensors, path, metadata):
        if fault == "tensor" and "format" in metadata:
            tensors = dict(list(tensors.items())[1:])
        if fault == "dtype" and "format" in metadata:
            tensors = {name: tensor.to(torch.float16) for name, tensor in tensors.items()}
        return save(tensors, path, metadata)

    monkeypatch.setattr(tensor_forms, "encode", loses)
    monkeypatch.setattr(container, "save", forgets)
    (tmp_path / "out").mkdir()
    settings = SETTINGS | {"sizes": True, "warmup": 0, "repetitions": 1}
    with pytest.raises((AttestationError, PrunegridError), match="read back|lacks|not named"):
        efficiency.run(settings, {"weights": weights}, tmp_path / "out", tiny.job())
    assert not list((tmp_path / "out").iterdir())


def test_what_sizes_need_is_not_in_memory_while_it_is_measured():
    """The peak of a plain row must hold no adapters' and no quantizers' libraries."""
    code = (
        "import sys; from prunegrid.evaluation import peak_memory, timed_work; "
        "from prunegrid.models import open_checkpoint; "
        "print({'peft', 'bitsandbytes'} & {*sys.modules})"
    )
    library = Path(sizes.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(library)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_sizes_come_after_what_is_timed(tmp_path, monkeypatch):
    """No time and no peak of memory has them in it; without the setting nothing is written."""
    weights = tiny.artifact(tmp_path / "w", "llama", "2:4")
    order = []
    for module, name in ((speed, "measure"), (sizes, "measure")):
        inner = getattr(module, name)

        def spy(*arguments, _inner=inner, _name=module.__name__):
            order.append(_name.rpartition(".")[2])
            return _inner(*arguments)

        monkeypatch.setattr(module, name, spy)
    for wanted, seen in ((False, ["speed"]), (True, ["speed", "sizes"])):
        order.clear()
        out = tmp_path / str(wanted)
        out.mkdir()
        record = efficiency.run(SETTINGS | {"sizes": wanted}, {"weights": weights}, out, tiny.job())
        assert order == seen and (record["sizes"] is not None) == wanted
        assert [p.name for p in out.iterdir()] == ["efficiency.json"]
