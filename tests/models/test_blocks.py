"""Blocks and linears of every supported architecture, found by structure; replay equals forward."""

import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
)

from prunegrid.blocks import find_blocks, oriented, prunable
from prunegrid.errors import PrunegridError
from prunegrid.input_stats import Accumulator
from prunegrid.pruning import prune_weight
from prunegrid.pruning.engine import prune_model
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.replay import Replay

SMALL = {"vocab_size": 64, "max_position_embeddings": 64, "hidden_size": 16}
GQA = {
    **SMALL,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
}
OPT = {**SMALL, "num_hidden_layers": 3, "num_attention_heads": 4, "ffn_dim": 32}
# name: (model_type, config, linears a block)
CAUSAL = {
    "opt-125m": ("opt", {**OPT, "word_embed_proj_dim": 16}, 6),
    "opt-350m": ("opt", {**OPT, "word_embed_proj_dim": 8, "do_layer_norm_before": False}, 6),
    "llama": ("llama", {**GQA, "tie_word_embeddings": True}, 7),
    "gpt2": (
        "gpt2",
        {"vocab_size": 64, "n_positions": 64, "n_embd": 16, "n_layer": 3, "n_head": 4},
        4,
    ),
    "gpt-neox": (
        "gpt_neox",
        {**SMALL, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32},
        4,
    ),
    "qwen2": (
        "qwen2",
        {**GQA, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
        7,
    ),
    "olmo": ("olmo", GQA, 7),
}
BERT = {**SMALL, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 32}


def build(family, kind, config, seed=0):
    """A random model with noise on biases and norms, which hide faults when they are 0 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = family.from_config(AutoConfig.for_model(kind, pad_token_id=1, **config))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture(params=CAUSAL)
def case(request):
    kind, config, count = CAUSAL[request.param]
    return build(AutoModelForCausalLM, kind, config), count


@pytest.fixture
def tokens():
    return torch.randint(2, 64, (4, 24), generator=torch.Generator().manual_seed(0))


def test_linears_of_all_blocks_and_nothing_else(case):
    model, count = case
    blocks = find_blocks(model)
    assert len(blocks.names) == 3
    assert [len(linears) for linears in blocks.linears.values()] == [count] * 3
    found = prunable(model)
    every = dict(model.named_modules())
    assert all(every[name] is module for name, module in found.items())
    assert all(name.startswith(tuple(f"{b}." for b in blocks.names)) for name in found)
    outside = [
        n for n in every if n.endswith(("lm_head", "embed_out", "project_in", "project_out"))
    ]
    assert outside and not set(outside) & set(found)
    # Every matrix of a block belongs to a linear that was found.
    inside = {id(module.weight) for module in found.values()}
    matrices = [p for b in blocks.modules for p in b.parameters() if p.dim() == 2]
    assert matrices and all(id(p) in inside for p in matrices)


@torch.no_grad()
def test_block_by_block_equals_the_models_own_forward(case, tokens):
    model, _ = case
    blocks = find_blocks(model)
    replay = Replay(model, blocks, tokens)
    for index in range(len(blocks.names)):
        for sample in range(len(tokens)):
            replay.advance(index, sample, replay.run(index, sample))
    for sample, window in enumerate(tokens):
        ends = []
        last = blocks.modules[-1].register_forward_hook(lambda *call, e=ends: e.append(call[-1]))
        model(window[None], use_cache=False)
        last.remove()
        own = ends[0] if isinstance(ends[0], torch.Tensor) else ends[0][0]
        assert torch.allclose(replay.hidden[sample], own, atol=1e-6)
    assert all("forward" not in block.__dict__ for block in blocks.modules)


@torch.no_grad()
def test_weights_are_oriented_as_outputs_by_inputs(case, tokens):
    model, _ = case
    calls = {}
    found = prunable(model)
    handles = [
        module.register_forward_hook(
            lambda _m, args, output, name=name: calls.update({name: (args[0], output)})
        )
        for name, module in found.items()
    ]
    model(tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    assert calls.keys() == found.keys()
    for name, (inputs, output) in calls.items():
        bias = found[name].bias
        expected = inputs @ oriented(found[name]).t() + (0 if bias is None else bias)
        assert torch.allclose(output, expected, atol=1e-5), name


@pytest.mark.parametrize("method", ["magnitude", "wanda", "ria", "sparsegpt", "random"])
@pytest.mark.parametrize("propagation", ["sequential", "single-pass"])
@torch.no_grad()
def test_pruned_in_the_right_orientation_and_only_there(case, tokens, method, propagation):
    model, _ = case
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = prune_model(model, Recipe(method, "2:4"), tokens=tokens, propagation=propagation)
    found = prunable(model)
    assert report.keys() == found.keys()
    for name, module in found.items():
        groups = (oriented(module) != 0).reshape(-1, 4).sum(1)
        assert groups.max() == 2, name
        assert report[name]["zeros"] == module.weight.numel() // 2
        assert report[name]["shape"] == list(oriented(module).shape)
    weights = {f"{name}.weight" for name in found}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in weights), name
    assert torch.isfinite(model(tokens).logits).all()


@torch.no_grad()
def test_sequential_is_what_the_papers_do(case, tokens):
    """Each block's linears by the inputs that the pruned blocks before it give."""
    model, _ = case
    report = {}
    kind = type(model)
    slow = kind(model.config).eval()
    slow.load_state_dict(model.state_dict())
    prune_model(model, Recipe("wanda", sparsity=0.5), tokens=tokens)
    for linears in find_blocks(slow).linears.values():
        sums = {
            name: Accumulator("input_norms", oriented(m).shape[1]) for name, m in linears.items()
        }
        handles = [
            module.register_forward_pre_hook(lambda _m, args, s=sums[name]: s.add(args[0], ""))
            for name, module in linears.items()
        ]
        for window in tokens:
            slow(window[None], use_cache=False)
        for handle in handles:
            handle.remove()
        for name, module in linears.items():
            inputs = sums[name].finish().input_norms.sqrt()[None]
            weight = oriented(module)
            weight.copy_(prune_weight(weight, "wanda", "unstructured", sparsity=0.5, inputs=inputs))
            report[name] = weight.clone()
    for name, module in prunable(model).items():
        same = (oriented(module) != 0) == (report[name] != 0)
        assert same.float().mean() > 0.995, name


@torch.no_grad()
def test_single_pass_uses_the_inputs_that_pruned_linears_give(case, tokens):
    """Run on the finished model, each linear's inputs are those by which it was pruned."""
    model, _ = case
    dense = {name: oriented(m).clone() for name, m in prunable(model).items()}
    prune_model(model, Recipe("wanda", sparsity=0.5), tokens=tokens, propagation="single-pass")
    found = prunable(model)
    sums = {name: Accumulator("input_norms", w.shape[1]) for name, w in dense.items()}
    for name, module in found.items():
        module.register_forward_pre_hook(lambda _m, args, s=sums[name]: s.add(args[0], ""))
    for window in tokens:
        model(window[None], use_cache=False)
    for name, module in found.items():
        inputs = sums[name].finish().input_norms.sqrt()[None]
        expected = prune_weight(dense[name], "wanda", "unstructured", sparsity=0.5, inputs=inputs)
        same = (oriented(module) != 0) == (expected != 0)
        assert same.float().mean() > 0.995, name


def test_two_lists_are_an_encoder_decoders_only():
    config = {**SMALL, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    model = build(AutoModelForSeq2SeqLM, "t5", config)
    assert len(find_blocks(model).names) == 4
    model.config.is_encoder_decoder = False
    with pytest.raises(PrunegridError, match=r"2 lists.*encoder\.block \(2 blocks\), decoder\.blo"):
        find_blocks(model)
    model.config.is_encoder_decoder = True
    model.third = nn.ModuleList(model.encoder.block)
    with pytest.raises(PrunegridError, match="3 lists.*third.*expected an encoder's and a decoder"):
        find_blocks(model)


def test_no_blocks_is_refused_with_what_was_found():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([nn.LayerNorm(4), nn.Sequential(nn.Linear(4, 4))])

    with pytest.raises(PrunegridError, match=r"no blocks.*parts \(LayerNorm, Sequential\)"):
        find_blocks(Odd())
    with pytest.raises(PrunegridError, match="no blocks.*none"):
        find_blocks(nn.Linear(2, 2))


def test_blocks_whose_weights_are_not_linears_are_refused():
    class Expert(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate = nn.Linear(4, 2)
            self.experts = nn.Parameter(torch.zeros(8, 4, 4))

    model = nn.Module()
    model.layers = nn.ModuleList([Expert(), Expert()])
    with pytest.raises(PrunegridError, match="not in linears: experts"):
        find_blocks(model)


def test_include_names_linears_outside_the_blocks():
    model = build(AutoModelForCausalLM, *CAUSAL["opt-350m"][:2])
    added = prunable(model, include=("*.project_*",)).keys() - prunable(model).keys()
    assert {name.rpartition(".")[2] for name in added} == {"project_in", "project_out"}
    with pytest.raises(PrunegridError, match="names no linear"):
        prunable(model, include=("*.projection",))


class Plain(nn.Module):
    """A model of linear blocks; `between` is what it does after each, given all outputs so far."""

    def __init__(self, between):
        super().__init__()
        self.embed = nn.Embedding(64, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8)) for _ in range(3))
        self.between = between

    def forward(self, tokens, use_cache=False):
        outputs = [self.embed(tokens)]
        hidden = outputs[0]
        for layer in self.layers:
            outputs.append(layer(hidden))
            hidden = self.between(outputs)
        return hidden


class Doubling(nn.Sequential):
    """A block that changes its input in place."""

    def forward(self, hidden):
        return super().forward(hidden.mul_(2))


@torch.no_grad()
def test_what_a_model_does_between_its_blocks_is_its_own_affair(tokens):
    model = Plain(lambda outputs: outputs[-1] * 2 + outputs[0])
    blocks = find_blocks(model)
    replay = Replay(model, blocks, tokens)
    for index in range(3):
        for sample in range(len(tokens)):
            replay.advance(index, sample, replay.run(index, sample))
    ends = torch.cat(replay.hidden)
    assert torch.allclose(ends * 2 + model.embed(tokens), model(tokens), atol=1e-6)


@torch.no_grad()
def test_a_model_that_cannot_be_run_block_by_block_is_refused(tokens):
    honest = Plain(lambda outputs: outputs[-1])
    Replay(honest, find_blocks(honest), tokens)
    odd = Plain(lambda outputs: sum(outputs))
    with pytest.raises(PrunegridError, match=r"layers\.2 gives something else"):
        Replay(odd, find_blocks(odd), tokens)
    odd = Plain(lambda outputs: outputs[-1])
    odd.layers[1] = Doubling(nn.Linear(8, 8))
    odd._no_split_modules = ["Sequential", "Doubling"]
    with pytest.raises(PrunegridError, match=r"layers\.1 changes its input in place"):
        Replay(odd, find_blocks(odd), tokens)


class Remembering(nn.Module):
    """A block that hands a second value on to the next one: `make` of its hidden states."""

    def __init__(self, make):
        super().__init__()
        self.linear, self.make = nn.Linear(8, 8), make

    def forward(self, hidden, given=None):
        given = self.make(hidden) if given is None else given
        return self.linear(hidden) + given, given


class Handing(nn.Module):
    """A model whose blocks hand something on beside the hidden states, as T5's do."""

    def __init__(self, make):
        super().__init__()
        self.embed = nn.Embedding(64, 8)
        self.layers = nn.ModuleList(Remembering(make) for _ in range(3))

    def forward(self, tokens):
        hidden, given = self.embed(tokens), None
        for layer in self.layers:
            hidden, given = layer(hidden, given)
        return hidden


@torch.no_grad()
def test_blocks_may_hand_on_what_depends_on_positions_only(tokens):
    model = Handing(lambda hidden: torch.arange(hidden.shape[1]).float()[None, :, None])
    replay = Replay(model, find_blocks(model), tokens)
    for index in range(3):
        for sample in range(len(tokens)):
            replay.advance(index, sample, replay.run(index, sample))
    assert torch.allclose(torch.cat(replay.hidden), model(tokens))
    model = Handing(lambda hidden: hidden)
    with pytest.raises(PrunegridError, match=r"layers\.1 gives something else"):
        Replay(model, find_blocks(model), tokens)


@torch.no_grad()
def test_blocks_that_run_twice_or_are_shared_are_refused(tokens):
    model = build(AutoModelForCausalLM, *CAUSAL["llama"][:2])
    blocks = find_blocks(model)
    model.model.layers.append(model.model.layers[0])
    model.config.num_hidden_layers = 4
    with pytest.raises(PrunegridError, match="3 blocks were called 4 times"):
        Replay(model, blocks, tokens)
    with pytest.raises(PrunegridError, match="one block is used more than once"):
        find_blocks(model)


def poison(model):
    weight = next(iter(prunable(model).values())).weight
    with torch.no_grad():
        weight[0, 0] = float("nan")


def test_nan_weights_are_named():
    model = build(AutoModelForCausalLM, *CAUSAL["llama"][:2])
    poison(model)
    with pytest.raises(PrunegridError, match=r"layers\.0\.self_attn\.q_proj.*NaN"):
        prune_model(model, Recipe("magnitude", "2:4"))


@pytest.mark.parametrize("propagation", ["sequential", "single-pass"])
def test_infinite_activations_are_named_with_their_sample(tokens, propagation):
    model = build(AutoModelForCausalLM, *CAUSAL["llama"][:2])
    with torch.no_grad():
        model.get_input_embeddings().weight[63] = float("inf")
    tokens = tokens.clamp(max=62)
    tokens[2, 10] = 63
    with pytest.raises(PrunegridError, match=r"q_proj, calibration sample 2.*NaN or infinite"):
        prune_model(model, Recipe("wanda", "2:4"), tokens=tokens, propagation=propagation)


def test_a_width_that_m_does_not_divide_names_the_linear():
    model = build(AutoModelForCausalLM, *CAUSAL["llama"][:2])
    with pytest.raises(PrunegridError, match=r"layers\.0\.self_attn\.q_proj.*16 input columns"):
        prune_model(model, Recipe("magnitude", "2:5"))
