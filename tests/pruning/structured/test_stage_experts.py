"""Removing experts: the smaller model is the full one whose routers cannot choose them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import checkpoint
from prunegrid.models.blocks import prunable
from prunegrid.pruning.structured import stage
from tests.helpers import expert_models, odd_models, shrunken
from tests.helpers.architectures import build, by_output
from tests.helpers.masked_experts import gone_of, masked
from tests.helpers.rounding import close

pytestmark = pytest.mark.model

KINDS = pytest.mark.parametrize("kind", list(expert_models.MODELS))


def shrink(tmp_path, model, method="reap", sparsity=0.25, name="out", tokens=None, **changes):
    """Return (record, prune.json, the smaller model as plain transformers reads it)."""
    weights = tmp_path / f"{name}-weights"
    shrunken.artifact(weights, model)
    given = expert_models.windows(2) if tokens is None and method == "reap" else tokens
    asked = {"method": method, "units": ["experts"], "sparsity": sparsity, **changes}
    record, story = shrunken.shrink(tmp_path / name, weights, given, **asked)
    small = AutoModelForCausalLM.from_pretrained(tmp_path / name, dtype="auto").eval()
    return record, story, small


def terms(model):
    """Return how many products are summed on the way to a model's logits."""
    return sum(by_output(linear).shape[1] for linear in prunable(model).values())


@torch.no_grad()
def require_masked(small, full, gone):
    """Check that a smaller model is the full one with its routers' logits at −∞."""
    tokens = expert_models.windows(2)
    with masked(full, small, gone):
        expected = full(tokens, use_cache=False).logits
    assert close(small(tokens, use_cache=False).logits, expected, terms(full))
    return expected


@KINDS
@torch.no_grad()
def test_to_remove_experts_is_to_let_no_token_choose_them(tmp_path, kind):
    model = expert_models.build(kind)
    for mixture in model.modules():
        if isinstance(bias := getattr(mixture, "e_score_correction_bias", None), torch.Tensor):
            bias.copy_(torch.tensor([0.02, -0.03, 0.03, 0.0]))
    record, story, small = shrink(tmp_path, model)
    gone = gone_of(story)
    assert record["removed"] == {"experts": 1} and record["units_before"] == {"experts": 4}
    assert record["experts"] == {"unreached": {}}
    assert gone and all(len(experts) == 1 for experts in gone.values())
    expected = require_masked(small, model, gone)
    # And something was removed that mattered.
    assert not torch.allclose(model(expert_models.windows(2)).logits, expected, rtol=1e-2)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, small))
    assert record["weights"]["parameters"] == after < before
    assert record["weights"]["removed_total"] == 1 - after / before
    share = 1 - record["weights"]["prunable_parameters"] / record["weights"]["prunable_before"]
    assert record["weights"]["removed_prunable"] == share > 0.05
    assert record["weights"]["experts_before"] == 4
    assert checkpoint.load(tmp_path / "out").record == record["weights"]


def test_a_process_without_the_library_loads_the_folder(tmp_path):
    _, _, small = shrink(tmp_path, expert_models.build("qwen3_moe"))
    code = (
        "import sys, torch, transformers\n"
        "model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()\n"
        "assert not any(name.startswith('prunegrid') for name in sys.modules)\n"
        "print(model(torch.arange(2, 12)[None]).logits.double().abs().sum().item())\n"
    )
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "out")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with torch.no_grad():
        expected = float(small(torch.arange(2, 12)[None]).logits.double().abs().sum())
    assert float(told) == pytest.approx(expected, rel=1e-5)
    assert json.loads((tmp_path / "out/config.json").read_text())["num_experts_per_tok"] == 2


@pytest.mark.parametrize("method", ["magnitude", "random"])
def test_baselines_need_no_tokens(tmp_path, method):
    model = expert_models.build("mixtral")
    record, story, small = shrink(tmp_path, model, method, sparsity=0.5)
    assert record["removed"] == {"experts": 2} and "experts" not in record
    require_masked(small, model, gone_of(story))
    if method == "magnitude":
        for name, holder in expert_models.holders(model).items():
            tensors = (holder.gate_up_proj, holder.down_proj)
            norms = sum(tensor.detach().double().square().sum((1, 2)) for tensor in tensors)
            lowest = norms.argsort()[:2].sort().values.tolist()
            assert gone_of(story)[name.removesuffix(".mlp.experts")] == lowest


def test_a_model_in_bfloat16_stays_one(tmp_path):
    model = expert_models.build("mixtral").bfloat16()
    _, story, small = shrink(tmp_path, model)
    assert small.dtype == torch.bfloat16
    full = AutoModelForCausalLM.from_pretrained(tmp_path / "out-weights", dtype=torch.float32)
    require_masked(small.float(), full.eval(), gone_of(story))


def test_experts_that_no_token_reached_are_named_and_stay(tmp_path, caplog):
    model = expert_models.build("mixtral", num_experts_per_tok=1)
    expert_models.leave_unreached(model)
    record, story, _ = shrink(tmp_path, model)
    for block, experts in gone_of(story).items():
        assert experts in ([0], [1])
        assert story["blocks"][block]["experts"]["unreached"] == [2, 3]
        assert f"2 of 4 experts of {block}" in caplog.text
    names = {
        f"{name}.{tensor}.{expert}"
        for name in expert_models.holders(model)
        for tensor in expert_models.TENSORS
        for expert in (2, 3)
    }
    assert set(record["experts"]["unreached"]) == names
    with pytest.raises(PrunegridError, match="more calibration samples") as refused:
        shrink(tmp_path, model, sparsity=0.75, name="more")
    assert "2 of 4 experts" in str(refused.value)


GROUPED = {"n_routed_experts": 8, "n_group": 2, "topk_group": 1}


def test_groups_of_a_router_stay_the_same_groups(tmp_path):
    model = expert_models.build("deepseek_v3", **GROUPED)
    _, story, small = shrink(tmp_path, model, sparsity=0.5)
    for experts in gone_of(story).values():
        assert sum(expert < 4 for expert in experts) == 2
    require_masked(small, model, gone_of(story))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["n_group"], config["topk_group"]) == (2, 1)


@pytest.mark.parametrize(
    ("changes", "sparsity", "said"),
    [
        ({}, 0.75, "1 would be left for a token, which is given 2"),
        ({}, 0.2, "sparsity ≥ 0.25"),
        (GROUPED, 0.4, "chooses among 2 groups"),
        (GROUPED | {"num_experts_per_tok": 3}, 0.5, "2 would be left for a token"),
    ],
)
def test_shares_that_cannot_go_are_refused_before_anything_is_computed(
    tmp_path, monkeypatch, changes, sparsity, said
):
    monkeypatch.setattr(stage, "score_units", lambda *_: pytest.fail("scores were computed"))
    kind = "deepseek_v3" if changes else "mixtral"
    with pytest.raises(PrunegridError, match=said) as refused:
        shrink(tmp_path, expert_models.build(kind, **changes), sparsity=sparsity)
    assert "sparsity" in str(refused.value)


def test_sparsity_is_of_the_dense_models_experts_through_a_chain(tmp_path):
    model = expert_models.build("mixtral", num_local_experts=8)
    _, _, small = shrink(tmp_path, model, "magnitude", sparsity=0.25, name="first")
    asked = {"method": "magnitude", "units": ["experts"]}
    record, _ = shrunken.shrink(
        tmp_path / "second", tmp_path / "first", None, sparsity=0.5, **asked
    )
    once, _, _ = shrink(tmp_path, model, "magnitude", sparsity=0.5, name="once")
    assert small.config.num_local_experts == 6
    assert record["removed"] == {"experts": 2} and record["units_before"] == {"experts": 6}
    assert record["weights"]["sha256"] == once["weights"]["sha256"]
    assert record["weights"]["experts_before"] == 8
    with pytest.raises(PrunegridError, match="2 are gone already"):
        shrunken.shrink(tmp_path / "less", tmp_path / "first", None, sparsity=0.25, **asked)


def test_a_cache_works_in_the_smaller_model(tmp_path):
    model = expert_models.build("mixtral")
    _, story, small = shrink(tmp_path, model)
    tokens = expert_models.windows(1, 6)
    written = small.generate(tokens, max_new_tokens=6, do_sample=False, pad_token_id=0)
    with torch.no_grad(), masked(model, small, gone_of(story)):
        for _ in range(written.shape[1] - tokens.shape[1]):
            following = model(tokens, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, following], dim=1)
    assert written.tolist() == tokens.tolist()


def test_a_router_that_keeps_the_wrong_rows_is_not_saved_as_if_it_were_right(tmp_path, monkeypatch):
    """The fault: the router's rows are those of other experts."""
    plain = stage.shapes.smaller_tensors

    def shifted(state, *others):
        found = plain(state, *others)
        name = "model.layers.0.mlp.gate.weight"
        return found | {name: found[name].roll(1, 0)}

    monkeypatch.setattr(stage.shapes, "smaller_tensors", shifted)
    with pytest.raises(AttestationError, match="logits differ"):
        shrink(tmp_path, expert_models.build("mixtral"), "magnitude")


def other(kind, **sizes):
    """Return a small model of a kind that is no ordinary mixture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **(expert_models.COMMON | sizes))
        return AutoModelForCausalLM.from_config(config).eval()


ZAYA = {"num_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 32, "head_dim": 8}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: build("llama"), "no mixture of experts"),
        (lambda: odd_models.build("dbrx"), "lie in no tensor of all of a block"),
        (lambda: other("jetmoe", num_local_experts=4), "4 of its modules hold experts"),
        (lambda: other("zaya", **ZAYA), "not .5"),
    ],
    ids=["dense", "stacked", "two mixtures", "an expert that does nothing"],
)
def test_what_is_not_understood_is_refused(tmp_path, make, said):
    with pytest.raises(PrunegridError, match=said) as refused:
        shrink(tmp_path, make(), "magnitude")
    assert "blocks" in str(refused.value)


def test_a_calibration_is_needed(tmp_path):
    weights = shrunken.artifact(tmp_path / "w", expert_models.build("mixtral"))
    with pytest.raises(PrunegridError, match="needs calibration samples"):
        asked = {"method": "reap", "units": ["experts"], "sparsity": 0.25}
        shrunken.shrink(tmp_path / "out", weights, None, **asked)
