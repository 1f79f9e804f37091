"""REAP's scores: by a loop over tokens and experts, by the authors' code, and where none is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.structured import reap
from prunegrid.pruning.structured.expert_scores import routed_scores
from prunegrid.pruning.structured.unit_groups import Experts
from prunegrid.pruning.structured.unit_scores import lowest_units
from prunegrid.pruning.structured.units import find_units
from tests.helpers import ROOT, expert_models
from tests.helpers.expert_models import EXPERTS

pytestmark = pytest.mark.model

GOLDEN = ROOT / "tests/golden/reap_small.npz"
# Sums of a few hundred float32 terms here, in float64 there.
CLOSE = 1e-4


def scores_of(model, tokens):
    """Return block → scores of its experts, by the library."""
    units = find_units(model, ["experts"], tokens[:1, :8])
    found = routed_scores(model, units.of("experts"), reap.importance, tokens)
    return {block: scores for (_, block), scores in found.items()}


def gates_by_hand(router, config, kind, hidden):
    """Return (experts of each token, their gates) by the formula of a kind of model."""
    logits = hidden @ router.weight.double().T
    if kind == "gpt_oss":
        values, chosen = (logits + router.bias.double()).topk(config.num_experts_per_tok)
        return chosen, values.softmax(-1)
    if kind == "deepseek_v3":
        shares = logits.sigmoid()
        chosen = (shares + router.e_score_correction_bias.double()).topk(2).indices
        gates = shares.gather(1, chosen)
        return chosen, gates / gates.sum(1, keepdim=True) * config.routed_scaling_factor
    gates, chosen = logits.softmax(-1).topk(config.num_experts_per_tok)
    if kind == "mixtral" or config.norm_topk_prob:
        gates = gates / gates.sum(1, keepdim=True)
    return chosen, gates


@torch.no_grad()
def by_hand(model, kind, tokens):
    """Return block → REAP's scores, by a loop over tokens and experts."""
    seen = {}
    for name, holder in expert_models.holders(model).items():
        seen[name] = []
        holder.register_forward_pre_hook(lambda _m, args, name=name: seen[name].append(args[0]))
    for window in tokens:
        model(window[None], use_cache=False)
    model, scores = model.double(), {}
    for name, holder in expert_models.holders(model).items():
        mixture = model.get_submodule(name.rpartition(".")[0])
        router = mixture.router if kind == "gpt_oss" else mixture.gate
        sums, counts = torch.zeros(2, EXPERTS, dtype=torch.float64)
        for hidden in torch.cat(seen[name]).double():
            chosen, gates = gates_by_hand(router, model.config, kind, hidden[None])
            for expert, gate in zip(chosen[0].tolist(), gates[0].tolist(), strict=True):
                given = expert_models.expert_output(holder, kind, expert, hidden[None])
                sums[expert] += gate * float(given.norm())
                counts[expert] += 1
        scores[name.removesuffix(".mlp.experts")] = sums / counts
    return scores


@pytest.mark.parametrize("kind", list(expert_models.MODELS))
def test_a_score_is_the_mean_over_an_experts_tokens_of_gate_times_norm(kind):
    model, tokens = expert_models.build(kind), expert_models.windows(2)
    if kind == "deepseek_v3":
        bias = torch.tensor([0.3, -0.2, 0.1, 0.0])  # it changes which experts are chosen
        model.model.layers[1].mlp.gate.e_score_correction_bias.copy_(bias)
    found, expected = scores_of(model, tokens), by_hand(model, kind, tokens)
    assert found.keys() == expected.keys()
    for block, scores in found.items():
        assert scores.dtype == torch.float64
        assert torch.allclose(scores, expected[block], rtol=CLOSE, equal_nan=True), block


class Layer(nn.Module):
    """One mixture over rows of a table."""

    def __init__(self, golden):
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        super().__init__()
        experts, hidden, width = golden["down"].shape[0], *golden["down"].shape[1:]
        sizes = {"hidden_size": hidden, "intermediate_size": width, "num_local_experts": experts}
        self.config = MixtralConfig(**sizes, num_experts_per_tok=2)
        self.config._experts_implementation = "eager"
        self.table, self.mixture = golden["X"].flatten(0, 1), MixtralSparseMoeBlock(self.config)
        with torch.no_grad():
            self.mixture.gate.weight.copy_(golden["router"])
            self.mixture.experts.gate_up_proj.copy_(golden["gate_up"])
            self.mixture.experts.down_proj.copy_(golden["down"])

    def forward(self, input_ids):
        return self.mixture(self.table[input_ids])


def test_scores_are_those_of_the_authors_code():
    with np.load(GOLDEN) as arrays:
        golden = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    windows, length, _ = golden["X"].shape
    experts = len(golden["router"])
    group = Experts(
        *("experts", "0", experts, {}, {}),
        holder="mixture.experts",
        members=[[]] * experts,
        usable=1,
        top_k=2,
    )
    tokens = torch.arange(windows * length).reshape(windows, length)
    scores = routed_scores(Layer(golden).eval(), [group], reap.importance, tokens)["experts", "0"]
    reached = golden["frequency"] > 0
    assert reached.sum() == experts - 1  # there an expert without tokens has the score 0
    assert scores.isnan().tolist() == (~reached).tolist()
    expected = golden["reap_renormalised"].double()
    assert torch.allclose(scores[reached], expected[reached], rtol=CLOSE)
    # The other kind of gate would be seen.
    plain = golden["reap_plain"].double()
    assert not torch.allclose(scores[reached], plain[reached], rtol=1e-2)


def test_experts_that_no_token_reaches_have_no_score():
    model = expert_models.build("mixtral", num_experts_per_tok=1)
    expert_models.leave_unreached(model)
    for scores in scores_of(model, expert_models.windows()).values():
        assert scores.isnan().tolist() == [False, False, True, True]


def test_experts_without_a_score_stay_and_too_few_others_are_refused():
    none = float("nan")
    scores = {("experts", "0"): torch.tensor([none, 3.0, 1.0, none, 2.0], dtype=torch.float64)}
    assert lowest_units({"experts": 2}, scores)["experts", "0"].tolist() == [2, 4]
    assert lowest_units({"experts": 3}, scores)["experts", "0"].tolist() == [1, 2, 4]
    with pytest.raises(PrunegridError, match="more calibration samples") as refused:
        lowest_units({"experts": 4}, scores)
    assert "2 of 5 experts" in str(refused.value)


def test_each_group_of_a_router_loses_as_many():
    values = torch.tensor([1.0, 2.0, 9.0, 8.0, 3.0, 4.0, 7.0, 6.0], dtype=torch.float64)
    for parts, expected in ((1, [0, 1, 4, 5]), (2, [0, 1, 4, 5]), (4, [0, 3, 4, 7])):
        gone = lowest_units({"experts": 4}, {("experts", "0"): values}, parts)
        assert gone["experts", "0"].tolist() == expected


def test_the_model_is_as_it_was_after_its_scores():
    model, tokens = expert_models.build("mixtral"), expert_models.windows(1)
    before = model(tokens, use_cache=False).logits
    scores_of(model, tokens)
    assert torch.equal(model(tokens, use_cache=False).logits, before)
    assert all("forward" not in vars(m) for m in expert_models.holders(model).values())


def test_experts_that_are_not_given_gates_are_refused():
    """Llama 4 scales what experts are given, and runs all of them."""
    sizes = {"num_local_experts": 4, "intermediate_size_mlp": 48, "head_dim": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        from transformers import AutoConfig, AutoModelForCausalLM

        config = AutoConfig.for_model("llama4_text", **(expert_models.COMMON | sizes))
        model = AutoModelForCausalLM.from_config(config).eval()
    with pytest.raises(PrunegridError, match="cannot be followed") as refused:
        scores_of(model, expert_models.windows(1))
    assert "magnitude" in str(refused.value)


def test_activations_that_are_not_finite_are_refused():
    model = expert_models.build("mixtral")
    with torch.no_grad():
        model.model.layers[1].mlp.experts.down_proj[:] = torch.inf
    with pytest.raises(PrunegridError, match="NaN or infinite") as refused:
        scores_of(model, expert_models.windows(1))
    assert "model.layers.1" in str(refused.value)
