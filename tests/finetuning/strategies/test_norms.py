"""Norms and biases are trained, and no matrix is."""

from __future__ import annotations

import pytest
import torch

from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning.strategies import norms
from prunegrid.models import checkpoint
from tests.helpers import tiny
from tests.helpers.tuning import KINDS, tune

pytestmark = pytest.mark.model


@pytest.mark.parametrize("kind", KINDS)
def test_norms_trains_vectors_alone(tmp_path, kind):
    parent = tiny.artifact(tmp_path / "parent", kind, "2:4", dtype=torch.bfloat16)
    record, out = tune(tmp_path, parent, "norms", learning_rate=1e-1)
    before = dict(checkpoint.read_model(parent).named_parameters())
    after = dict(checkpoint.read_model(out).named_parameters())
    count = 0
    for name, parameter in before.items():
        same = torch.equal(parameter, after[name])
        assert same if parameter.dim() > 1 else not same, name
        count += parameter.numel() if parameter.dim() <= 1 else 0
    assert record["train"]["trained_parameters"] == count
    assert record["weights"]["precision"] == "bfloat16"


def test_norms_takes_no_gradient_of_a_matrix():
    model = tiny.model("opt")
    names = norms.choose(model, "test")
    model(input_ids=torch.randint(3, 40, (1, 5))).logits.sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) is (name in names) is (parameter.dim() == 1), name
    assert any(name.endswith("fc1.bias") for name in names)
    assert any("layer_norm.weight" in name for name in names)


def test_norms_of_a_model_without_any():
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4, bias=False)})
    with pytest.raises(PrunegridError, match="neither biases nor norms"):
        norms.choose(model, "test")
