"""Distances of next tokens, against plain numpy in float64."""

import weakref

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.distances import (
    require_same_vocabulary,
    token_distances,
    window_distances,
)
from prunegrid.evaluation.perplexity import plan_windows, window_losses
from tests.helpers.architectures import ARCHITECTURES, build

pytestmark = pytest.mark.model

DECODERS = [n for n, one in ARCHITECTURES.items() if one.auto == "AutoModelForCausalLM"]
SMALL = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
# Models that change their logits after the head, or have a layer of another kind before it.
OTHERS = {
    "gemma2": {"head_dim": 4, "final_logit_softcapping": 3.0},
    "cohere": {},
    "granite": {"logits_scaling": 3.0},
    "mamba": {"state_size": 4},
    "bert": {"is_decoder": True},
}
TOKENS = np.random.default_rng(0).integers(2, 60, 40).tolist()
STRIDE = plan_windows(40, "stride", 12, 5, None)


def other(kind, seed):
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, "pad_token_id": 1}, **OTHERS[kind])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
    return made


def pair(name):
    return [build(name, seed) if name in ARCHITECTURES else other(name, seed) for seed in (1, 0)]


def logits_of(model, window):
    part = torch.tensor(TOKENS[window.start : window.end])
    with torch.no_grad():
        return model(part[None, :-1], use_cache=False).logits[0, -window.scored :].double().numpy()


def log_shares(logits):
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


@pytest.mark.parametrize("name", [*DECODERS, *OTHERS])
def test_each_window_is_as_in_float64(name):
    model, dense = pair(name)
    found = window_distances(model, dense, TOKENS, STRIDE, "here", block=3 * 64)
    losses = window_losses(model, TOKENS, STRIDE, "here")
    for one, window, loss in zip(found, STRIDE, losses, strict=True):
        own, its = (logits_of(each, window) for each in (model, dense))
        q, p = log_shares(own), log_shares(its)
        assert one.kl == pytest.approx((np.exp(p) * (p - q)).sum(), rel=1e-5)
        assert one.agree == (own.argmax(-1) == its.argmax(-1)).sum()
        assert one.loss == pytest.approx(loss, rel=1e-6)
        targets = TOKENS[window.end - window.scored : window.end]
        assert one.dense_loss == pytest.approx(
            -p[np.arange(window.scored), targets].sum(), rel=1e-5
        )


@pytest.mark.parametrize("name", ["opt-350m", "llama", "gemma2"])
def test_blocks_of_any_size_give_the_same(name):
    model, dense = pair(name)
    whole, *others = (
        window_distances(model, dense, TOKENS, STRIDE, "here", block=size)
        for size in (10**6, 64, 1, 5 * 64)
    )
    for found in others:
        assert [one.agree for one in found] == [one.agree for one in whole]
        for a, b in zip(found, whole, strict=True):
            assert a[1:] == pytest.approx(b[1:], rel=1e-5)


def test_a_model_has_no_distance_from_itself_or_its_copy():
    model, copy = build("llama"), build("llama")
    for dense in (model, copy):
        for one, window in zip(
            window_distances(model, dense, TOKENS, STRIDE, "here"), STRIDE, strict=True
        ):
            assert one.kl == 0 and one.agree == window.scored
            assert one.loss == one.dense_loss
    assert all(one.kl == 0 for one in window_distances(model, model, TOKENS, STRIDE, "here"))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([1e-4, 0.1, 5.0, 200.0]),
    st.floats(-20, 20),
)
def test_kl_is_never_negative_and_a_constant_changes_nothing(seed, scale, constant):
    draw = torch.Generator().manual_seed(seed)
    dense = torch.randn(6, 50, generator=draw) * 3
    logits = dense + torch.randn(6, 50, generator=draw) * scale
    targets = torch.randint(0, 50, (6,), generator=draw)
    agree, kl, loss, _ = token_distances(logits, dense, targets)
    assert (kl >= -100 * torch.finfo(torch.float64).eps).all() and (loss >= 0).all()
    p, q = (log_shares(each.double().numpy()) for each in (dense, logits))
    assert kl.numpy() == pytest.approx((np.exp(p) * (p - q)).sum(-1), rel=1e-4, abs=1e-6)
    assert (agree.numpy() == (p.argmax(-1) == q.argmax(-1))).all()
    moved = token_distances(logits + constant, dense - constant, targets)
    for one, two in zip((agree, kl, loss), moved[:3], strict=True):
        assert one.numpy() == pytest.approx(two.numpy(), rel=1e-4, abs=2e-5)


def test_a_token_that_dense_rules_out_counts_and_is_no_nan():
    dense = torch.tensor([[0.0, 0.0, -torch.inf]])
    logits = torch.tensor([[0.0, 0.0, 0.0]])
    _, kl, _, _ = token_distances(logits, dense, torch.tensor([0]))
    assert float(kl) == pytest.approx(np.log(3 / 2))
    both = token_distances(dense, dense, torch.tensor([0]))
    assert float(both[1]) == 0


class Watch(TorchDispatchMode):
    """Sums the bytes of living tensors whose last dimension is the vocabulary."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.alive, self.most = vocabulary, {}, 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        made = function(*arguments, **(named or {}))
        for one in made if isinstance(made, tuple) else (made,):
            if isinstance(one, torch.Tensor) and one.dim() and one.shape[-1] == self.vocabulary:
                storage = one.untyped_storage()
                self.alive[storage.data_ptr()] = (weakref.ref(one), storage.nbytes())
        held = {at: size for at, (ref, size) in self.alive.items() if ref() is not None}
        self.most = max(self.most, sum(held.values()))
        return made


def test_nothing_as_wide_as_the_vocabulary_is_kept_beyond_a_block():
    """A window of 48 tokens costs what one of 8 does; whole logits would be 2 × 48 rows."""
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        config = transformers.LlamaConfig(**{**SMALL, "vocab_size": 5003})
        models.append(transformers.AutoModelForCausalLM.from_config(config).eval())
    rows = 4
    peaks = []
    for length in (9, 49):
        plan = plan_windows(length, "nonoverlap", length, None, None)
        tokens = TOKENS[:1] * length
        with Watch(5003) as watch:
            window_distances(*models, tokens, plan, "here", block=rows * 5003)
        peaks.append(watch.most)
    assert peaks[0] == peaks[1]
    # Of each model: logits, float32 and float64 log-shares; then shares and the sum's terms.
    assert peaks[1] <= rows * 5003 * (2 * (4 + 4 + 8) + 6 * 8)


@pytest.mark.parametrize(("place", "whose"), [(0, "the model gives"), (1, "the dense model gives")])
def test_nan_logits_name_the_window_and_the_model(place, whose):
    models = [build("llama", 1), build("llama", 0)]
    with torch.no_grad():
        models[place].model.embed_tokens.weight[5] = float("nan")
    tokens = [7] * 8 + [5] * 8
    plan = plan_windows(16, "nonoverlap", 8, None, None)
    with pytest.raises(PrunegridError, match=f"loss of window . is nan.*{whose}"):
        window_distances(*models, tokens, plan, "here")


def test_another_vocabulary_is_refused():
    config = transformers.LlamaConfig(**{**SMALL, "vocab_size": 60})
    smaller = transformers.AutoModelForCausalLM.from_config(config)
    with pytest.raises(PrunegridError, match="has 60 tokens, the dense model 64"):
        require_same_vocabulary(smaller, build("llama"), "here")


def test_the_head_is_itself_again_afterwards():
    model = build("llama")
    with torch.no_grad():
        before = model(torch.tensor([TOKENS])).logits
        window_distances(model, build("llama", 1), TOKENS, STRIDE, "here")
        assert torch.equal(model(torch.tensor([TOKENS])).logits, before)
    assert "forward" not in vars(model.lm_head)
