"""2:4 kernels: which linears may use them, and that all is as before afterwards (without a GPU)."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation import speed
from prunegrid.models import sparse_kernels
from prunegrid.stages import efficiency
from tests.helpers import tiny
from tests.helpers.timing import SETTINGS

pytestmark = pytest.mark.model


def linear(rows=64, columns=128, dtype=torch.bfloat16, pattern="2:4"):
    made = nn.Linear(columns, rows, dtype=dtype)
    if pattern == "2:4":
        made.weight.data.view(rows, -1, 4)[..., :2] = 0
    return made


@pytest.mark.parametrize(
    "change,fit",
    [
        ({}, True),
        ({"dtype": torch.float16}, True),
        ({"dtype": torch.float32}, False),
        ({"pattern": None}, False),
        ({"rows": 48}, False),
        ({"columns": 96}, False),
    ],
)
def test_what_fits(change, fit):
    assert sparse_kernels.fits(linear(**change)) is fit


def test_a_subclass_holds_no_plain_weight():
    class Other(nn.Linear):
        pass

    made = linear()
    made.__class__ = Other
    assert not sparse_kernels.fits(made)


@pytest.mark.parametrize("capability,wanted", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_old_cards_and_cpus_have_none(monkeypatch, capability, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert sparse_kernels.allowed("cuda:0") is wanted
    assert not sparse_kernels.allowed("cpu")


def test_without_kernels_nothing_is_swapped_or_timed(monkeypatch):
    monkeypatch.setattr(speed, "measure", None)
    kernels(monkeypatch, None)
    made = tiny.model("llama", dtype=torch.bfloat16)
    tiny.prune_(made, "2:4")
    with sparse_kernels.running(made, "cpu") as linears:
        assert linears is None
    assert efficiency.time_sparse_kernels(made, SETTINGS, "cpu") == (None, None)


@pytest.fixture
def model(monkeypatch):
    """A 2:4 model in bfloat16, and a device that is said to have the kernels."""
    monkeypatch.setattr(sparse_kernels, "allowed", lambda device: True)
    made = tiny.model("llama", dtype=torch.bfloat16)
    tiny.prune_(made, "2:4")
    return made


def kernels(monkeypatch, convert):
    monkeypatch.setattr(torch.sparse, "to_sparse_semi_structured", convert)


def test_all_linears_run_sparse_and_are_dense_again(model, monkeypatch):
    kernels(monkeypatch, lambda weight: weight.clone())
    before = {name: p for name, p in model.named_parameters()}
    with sparse_kernels.running(model, "cuda:0") as linears:
        assert linears == 14
        changed = {n for n, p in model.named_parameters() if p is not before[n]}
        assert len(changed) == 14
    assert all(p is before[n] for n, p in model.named_parameters())


def test_a_wrong_product_is_an_error_and_leaves_the_model_as_it_was(model, monkeypatch):
    kernels(monkeypatch, lambda weight: weight * 1.1)
    before = {name: p for name, p in model.named_parameters()}
    with (
        pytest.raises(PrunegridError, match="the sparse kernel's product differs"),
        sparse_kernels.running(model, "cuda:0"),
    ):
        pass
    assert all(p is before[n] for n, p in model.named_parameters())


def test_a_linear_that_the_backend_refuses_stays_dense(model, monkeypatch):
    def picky(weight):
        if weight.shape[0] == 128:
            raise RuntimeError("no such shape")
        return weight.clone()

    kernels(monkeypatch, picky)
    with sparse_kernels.running(model, "cuda:0") as linears:
        assert linears == 10


def test_the_record_has_their_speeds(model, monkeypatch, tmp_path):
    kernels(monkeypatch, lambda weight: weight.clone())
    settings = SETTINGS | {"repetitions": 2}
    found, raw = efficiency.time_sparse_kernels(model, settings, "cpu")
    assert found["linears"] == 14 and len(raw["decode_seconds"]) == 2
    assert found["decode_tokens_per_second"]["median"] > 0
    dense = tiny.model("llama", dtype=torch.bfloat16)
    monkeypatch.setattr(speed, "measure", None)
    assert efficiency.time_sparse_kernels(dense, settings, "cpu") == ({"linears": 0}, None)
