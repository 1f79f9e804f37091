"""Linears that no other layer can stand in for: toys whose every use is known, and real models."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from prunegrid.models import blocks, linear_use

WIDTH = 6


class Same(nn.Linear):
    """A linear of a class of its own that computes what a linear does."""

    def forward(self, x):
        return x @ self.weight.T + self.bias


class Halved(nn.Linear):
    """One that computes something else."""

    def forward(self, x):
        return 0.5 * super().forward(x)


class Routed(nn.Linear):
    """One that takes something else."""

    def forward(self, x, route):
        return super().forward(x) * route


class Toy(nn.Module):
    """A model that uses each of its linears in another way."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, WIDTH)
        kinds = {"same": Same, "halved": Halved, "routed": Routed}
        names = ("called", "read", "transposed", "clamped", "asked", "expert", "twin", "other_twin")
        for name in (*names, *kinds):
            self.add_module(name, kinds.get(name, nn.Linear)(WIDTH, WIDTH))
        self.other_twin.weight = self.twin.weight
        self.dropout = nn.Dropout(0.5)

    def get_input_embeddings(self):
        return self.table

    def forward(self, ids, use_cache=None):
        x = self.dropout(self.called(self.table(ids)))
        x = F.linear(x, self.read.weight)
        x = x @ self.transposed.weight.T[:, :WIDTH]
        if self.training:
            self.clamped.weight.data.clamp_(-9, 9)
        x = self.clamped(x).to(self.asked.weight.dtype)
        x = x if self.asked.weight.device.type == "nowhere" else self.asked(x)
        if ids.sum() < 0:
            x = self.expert(x)
        return self.routed(self.halved(self.same(self.other_twin(self.twin(x)))), 1.0)


def uses(training):
    model = Toy().train(training)
    linears = blocks.linears_of(model)
    before = {name: linear.weight.clone() for name, linear in linears.items()}
    state = torch.get_rng_state()
    found = linear_use.irreplaceable(model, linears, training=training)
    # The model, its hooks and the random state are as before.
    assert model.training == training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], linear.weight) for name, linear in linears.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    return found


OTHERS = {
    "twin": linear_use.SHARED,
    "other_twin": linear_use.SHARED,
    "halved": linear_use.OTHER,
    "routed": linear_use.OTHER,
}
READ = dict.fromkeys(("read", "transposed"), linear_use.READ)


def test_each_use_is_told():
    """A linear that is called, asked for its dtype, or not reached can be replaced."""
    assert uses(training=False) == READ | OTHERS


def test_training_may_read_what_eval_mode_does_not():
    assert uses(training=True) == READ | OTHERS | {"clamped": linear_use.READ}


SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4, "intermediate_size": 64, "num_key_value_heads": 2}
JAMBA = {"num_experts": 1, "mamba_d_state": 8, "mamba_dt_rank": 8, "attn_layer_period": 2}
CASES = {
    "jamba": (SMALL | HEADS | JAMBA | {"attn_layer_offset": 1}, {"dt_proj"}),
    "falcon_mamba": (SMALL | {"state_size": 8, "time_step_rank": 8}, {"dt_proj"}),
    "falcon": (SMALL | {"num_attention_heads": 4}, set()),
    "qwen3": (SMALL | HEADS, set()),
}


@pytest.mark.model
@pytest.mark.parametrize("kind", CASES)
def test_real_models_read_these(kind):
    settings, expected = CASES[kind]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    found = linear_use.irreplaceable(model, blocks.prunable(model), training=True)
    assert {name.rpartition(".")[2] for name in found} == expected
    assert set(found.values()) <= {linear_use.READ}


def test_a_weight_that_a_layer_outside_shares_is_told():
    """Only one of the two is asked about; the table of tokens holds another's."""
    model = Toy().eval()
    model.called = nn.Linear(WIDTH, WIDTH)
    linears = {name: model.get_submodule(name) for name in ("twin", "called", "asked")}
    model.table.register_parameter("again", linears["asked"].weight)
    found = linear_use.irreplaceable(model, linears, training=False)
    assert found == {"twin": linear_use.SHARED, "asked": linear_use.SHARED}


def test_a_part_of_a_fused_tensor_is_no_layer():
    class Part:
        weight = torch.zeros(2, 3)

    found = linear_use.irreplaceable(Toy().eval(), {"part": Part()}, training=False)
    assert found == {"part": linear_use.PART}
