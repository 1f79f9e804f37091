"""What is understood of a model's structure, and what is refused with what was found."""

import copy

import pytest
import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import find_blocks, prunable
from prunegrid.models.forward import max_positions
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe
from prunegrid.pruning.replay import Replay
from tests.helpers.architectures import build
from tests.helpers.rounding import close

pytestmark = pytest.mark.model


@pytest.fixture
def tokens():
    torch.manual_seed(0)  # of the models that the tests make by hand
    return torch.randint(2, 64, (4, 24), generator=torch.Generator().manual_seed(0))


def test_two_lists_are_an_encoder_decoders_only():
    model = build("t5")
    assert len(find_blocks(model).names) == 5
    model.config.is_encoder_decoder = False
    with pytest.raises(PrunegridError, match=r"2 lists.*decoder\.block"):
        find_blocks(model)
    model.config.is_encoder_decoder = True
    model.third = nn.ModuleList(model.encoder.block)
    with pytest.raises(PrunegridError, match="3 lists.*third"):
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


def test_include_names_linears_outside_the_blocks():
    model = build("opt-350m")
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
    ends = torch.cat(list(replay.hidden))
    # Three linears of 8 inputs and a bias.
    assert close(ends * 2 + model.embed(tokens), model(tokens), 3 * 9)


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
    assert close(torch.cat(list(replay.hidden)), model(tokens), 3 * 10)
    model = Handing(lambda hidden: hidden)
    with pytest.raises(PrunegridError, match=r"layers\.1 gives something else"):
        Replay(model, find_blocks(model), tokens)


@torch.no_grad()
def test_blocks_that_run_twice_or_are_shared_are_refused(tokens):
    model = build("llama")
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
    model = build("llama")
    poison(model)
    with pytest.raises(PrunegridError, match=r"layers\.0\.self_attn\.q_proj.*NaN"):
        prune_model(model, Recipe("magnitude", "2:4"))


FIRST = {
    "llama": r"layers\.0\.self_attn\.q_proj",
    "gpt2": r"h\.0\.attn\.c_attn",
    "roberta": r"layer\.0\.attention\.self\.query",
    "deberta-v3": r"layer\.0\.attention\.self\.query_proj",
    "t5": r"encoder\.block\.0\.layer\.0\.SelfAttention\.q",
    "m2m100": r"encoder\.layers\.0\.self_attn\.[kqv]_proj",
}


@pytest.mark.parametrize("propagation", ["sequential", "single-pass", "dense"])
@pytest.mark.parametrize("name", FIRST)
def test_infinite_activations_are_named_with_their_sample(tokens, name, propagation):
    model = build(name)
    with torch.no_grad():
        model.get_input_embeddings().weight[63] = float("inf")
    tokens = tokens.clamp(max=62)
    tokens[2, 10] = 63
    recipe = Recipe("sparsegpt" if propagation == "dense" else "wanda", "2:4")
    said = rf"{FIRST[name]}, calibration sample 2.*NaN or infinite"
    with pytest.raises(PrunegridError, match=said):
        prune_model(model, recipe, tokens=tokens, propagation=propagation)


def test_infinity_that_a_block_makes_is_named_by_block_and_sample(tokens):
    """Finite weights, finite inputs of all its linears, and yet an overflow."""
    model = build("m2m100")
    with torch.no_grad():
        model.model.encoder.layers[0].fc2.weight.fill_(3e38)
    said = r"encoder\.layers\.0, calibration sample 0.*NaN or infinite activations"
    said = said.replace(", cal", ".*cal")
    for how in ("sequential", "single-pass"):
        with pytest.raises(PrunegridError, match=said):
            prune_model(copy.deepcopy(model), Recipe("ria", "2:4"), tokens=tokens, propagation=how)


def test_layers_that_share_their_weights_are_refused_where_inputs_are_needed(tokens):
    """ALBERT runs one block twelve times: no block's statistics are those of one place."""
    import transformers

    sizes = {"hidden_size": 16, "embedding_size": 8, "num_attention_heads": 4}
    config = transformers.AlbertConfig(
        vocab_size=64, intermediate_size=32, num_hidden_layers=3, **sizes
    )
    model = transformers.AutoModelForMaskedLM.from_config(config).eval()
    with pytest.raises(PrunegridError, match="1 blocks were called 3 times"):
        prune_model(model, Recipe("wanda", "2:4"), tokens=tokens)
    prune_model(model, Recipe("magnitude", "2:4"))
    found = find_blocks(model)
    zeros = [float((m.weight == 0).float().mean()) for m in prunable(model).values()]
    assert len(found.names) == 1 and zeros == [0.5] * len(zeros)


def test_positions_are_those_that_stand_for_tokens():
    assert max_positions(build("roberta")) == 62  # its table has 64 rows, padding_idx 1
    assert max_positions(build("bert")) == 64
    assert max_positions(build("opt-125m")) == 64
    assert max_positions(build("t5")) is None
    with torch.no_grad():
        build("roberta")(torch.full((1, 62), 5))
        with pytest.raises((IndexError, RuntimeError)):
            build("roberta")(torch.full((1, 63), 5))


def test_a_width_that_m_does_not_divide_names_the_linear():
    model = build("llama")
    with pytest.raises(PrunegridError, match=r"layers\.0\.self_attn\.q_proj.*16 input columns"):
        prune_model(model, Recipe("magnitude", "2:5"))
