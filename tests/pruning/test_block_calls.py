"""Models that hand state on beside the hidden states: as the model itself does it, or refused."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import find_blocks
from prunegrid.pruning.dense_statistics import dense_norms
from prunegrid.pruning.replay import Replay
from tests.helpers.rounding import close

pytestmark = pytest.mark.model
WIDTH, BLOCKS = 8, 4
SMALL = dict(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4,
    num_attention_heads=4, max_position_embeddings=64, pad_token_id=0,
)  # fmt: skip
# Real models that share keys and values by a dict, or make a cache that `forward` does not name.
REAL = {
    "gemma3n_text": SMALL | dict(
        intermediate_size=[64] * 4, num_key_value_heads=2, head_dim=8, num_kv_shared_layers=2,
        hidden_size_per_layer_input=8, vocab_size_per_layer_input=64, laurel_rank=4,
        layer_types=["sliding_attention", "full_attention"] * 2, sliding_window=8,
        activation_sparsity_pattern=[0.0] * 4,
    ),
    "granitemoehybrid": SMALL | dict(
        num_key_value_heads=2, layer_types=["mamba", "attention"] * 2, mamba_n_heads=4,
        mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1, mamba_chunk_size=8,
        num_local_experts=0, shared_intermediate_size=64,
    ),
    "bamba": SMALL | dict(
        num_key_value_heads=2, attn_layer_indices=[1, 3], mamba_n_heads=4, mamba_d_head=16,
        mamba_d_state=8, mamba_n_groups=1, mamba_chunk_size=8,
    ),
}  # fmt: skip


class Block(nn.Module):
    """A block that is given `state` beside its hidden states."""

    def __init__(self, use):
        super().__init__()
        self.linear, self.use = nn.Linear(WIDTH, WIDTH), use

    def forward(self, hidden, state=None):
        return self.use(self, hidden, state)


class Stateful(nn.Module):
    """A model whose blocks are given one `state` a pass, made by `begin`."""

    def __init__(self, use, begin, **config):
        super().__init__()
        self.embed = nn.Embedding(64, WIDTH)
        self.layers = nn.ModuleList(Block(use) for _ in range(BLOCKS))
        self.config, self.begin = SimpleNamespace(is_encoder_decoder=False, **config), begin

    def forward(self, tokens, **named):
        hidden, state = self.embed(tokens), self.begin(self)
        for layer in self.layers:
            hidden = layer(hidden, state=state)
        return hidden


def handing_on(block, hidden, state):
    """Keep the first block's output for the blocks behind it, as shared keys and values are."""
    first = state.setdefault("first", block.linear(hidden))
    return torch.tanh(block.linear(hidden) + first)


def counting(block, hidden, state):
    """Give something else with each run."""
    state.append(1)
    return block.linear(hidden) * len(state)


def using_up(block, hidden, state):
    """Take away what the next run would need."""
    return block.linear(hidden) * state.pop()


class Named(NamedTuple):
    """What a block returns by names, of which its model asks."""

    states: torch.Tensor
    beside: torch.Tensor


class ByName(Stateful):
    """A model whose blocks hand their `beside` on, the first one that of the positions."""

    def forward(self, tokens, **named):
        hidden = self.embed(tokens)
        beside = torch.linspace(0, 1, tokens.shape[1])[:, None]
        for layer in self.layers:
            output = layer(hidden, beside)
            hidden, beside = output.states, output.beside
        return hidden


def of_positions(block, hidden, state):
    """Hand on what positions alone decide."""
    return Named(torch.tanh(block.linear(hidden) + state), state * 2)


def of_two_streams(block, hidden, state):
    """Hand on a second stream of hidden states, as reversible blocks do."""
    return Named(hidden + block.linear(hidden + state), state + block.linear(hidden))


@pytest.fixture
def tokens():
    torch.manual_seed(0)
    return torch.randint(2, 64, (4, 16), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def outputs(model, windows):
    """Return each block's output on each window in the model's own forward."""
    seen = [[] for _ in windows]
    blocks = find_blocks(model).modules
    for place, window in enumerate(windows):
        handles = [
            block.register_forward_hook(
                lambda _m, _a, out, place=place: seen[place].append(
                    out if isinstance(out, torch.Tensor) else out[0]
                )
            )
            for block in blocks
        ]
        model(window[None], use_cache=False)
        for handle in handles:
            handle.remove()
    return seen


@torch.no_grad()
def by_hand(model, windows):
    """Return the same by `Replay`, every block run twice on all windows before they move on."""
    replay = Replay(model, find_blocks(model), windows)
    seen = [[] for _ in windows]
    for index in range(len(replay.blocks.names)):
        for sample in replay.samples:
            replay.run(index, sample)
        for sample in replay.samples:
            seen[sample].append(replay.run(index, sample))
        replay.advance_all(index)
    return seen


def test_what_an_earlier_block_leaves_belongs_to_its_sample(tokens):
    model = Stateful(handing_on, lambda _: {}).eval()
    for ours, own in zip(by_hand(model, tokens), outputs(model, tokens), strict=True):
        for a, b in zip(ours, own, strict=True):
            assert close(a, b, BLOCKS * (WIDTH + 1))


@pytest.mark.parametrize("kind", REAL)
def test_real_models_that_hand_state_on_run_by_hand_as_by_themselves(kind, tokens):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **REAL[kind])).eval()
    for ours, own in zip(by_hand(model, tokens), outputs(model, tokens), strict=True):
        for a, b in zip(ours, own, strict=True):
            assert close(a, b, 4 * 64)


def test_outputs_with_names_keep_them(tokens):
    model = ByName(of_positions, None).eval()
    for ours, own in zip(by_hand(model, tokens), outputs(model, tokens), strict=True):
        for a, b in zip(ours, own, strict=True):
            assert close(a, b, BLOCKS * (WIDTH + 1))


def test_a_second_stream_beside_the_hidden_states_is_refused(tokens):
    model = ByName(of_two_streams, None).eval()
    with pytest.raises(PrunegridError, match=r"layers\.1 gives something else"):
        Replay(model, find_blocks(model), tokens)


@pytest.mark.parametrize(
    "use,begin",
    [(counting, lambda _: []), (using_up, lambda _: [1.0] * BLOCKS)],
    ids=["counting", "using up"],
)
def test_state_that_a_run_moves_on_is_refused(use, begin, tokens):
    model = Stateful(use, begin).eval()
    with pytest.raises(PrunegridError, match=r"layers\.[0-3]"):
        Replay(model, find_blocks(model), tokens)


def test_a_cache_that_the_config_alone_switches_is_off_while_blocks_are_looked_at(tokens):
    made = []

    def begin(model):
        made.append([] if model.config.use_cache else None)
        return made[-1]

    def use(block, hidden, state):
        return block.linear(hidden) if state is None else counting(block, hidden, state)

    model = Stateful(use, begin, use_cache=True).eval()
    Replay(model, find_blocks(model), tokens)
    assert made and set(map(type, made)) == {type(None)} and model.config.use_cache is True


def test_a_block_that_is_called_again_counts_with_all_its_calls(tokens):
    """ALBERT runs one block for all of its layers."""
    config = AutoConfig.for_model("albert", **SMALL, embedding_size=16, num_hidden_groups=1)
    model = AutoModelForMaskedLM.from_config(config).eval()
    given = {}
    norms = dense_norms(model, tokens)
    handles = [
        module.register_forward_pre_hook(
            lambda _m, args, name=name: given.setdefault(name, []).append(args[0].flatten(0, -2))
        )
        for name, module in model.named_modules()
        if name in norms
    ]
    with torch.no_grad():
        for window in tokens:
            model(window[None])
    for handle in handles:
        handle.remove()
    for name, inputs in given.items():
        assert len(inputs) == len(tokens) * 4
        expected = torch.cat(inputs).square().mean(0)
        assert close(norms[name], expected, 4 * tokens.numel(), expected), name


def test_a_linear_that_two_blocks_share_is_refused_where_blocks_run_by_hand(tokens):
    model = Stateful(lambda block, hidden, _: block.linear(hidden), lambda _: None).eval()
    model.layers[2].linear = model.layers[0].linear
    with pytest.raises(PrunegridError, match="share the weights"):
        Replay(model, find_blocks(model), tokens)
