"""Parts of blocks, in every architecture: what is found by structure is what its authors built."""

from __future__ import annotations

import pytest
import torch
import transformers

from prunegrid.models.blocks import find_blocks
from prunegrid.pruning import block_parts
from prunegrid.pruning.holding import evaluating
from prunegrid.pruning.replay import Replay
from tests.helpers import expert_models
from tests.helpers.architectures import ARCHITECTURES, build

pytestmark = pytest.mark.model

LLAMA, BERT = ["self_attn", "mlp"], ["attention", "rest"]
# The parts of a block of each stack.
PARTS = {
    "opt-125m": [["self_attn", "rest"]],
    "opt-350m": [["self_attn", "rest"]],
    "gpt2": [["attn", "mlp"]],
    "gpt-neox": [["attention", "mlp"]],
    **dict.fromkeys(("llama", "qwen2", "qwen3", "olmo", "olmo2"), [LLAMA]),
    **dict.fromkeys(("bert", "minilm", "bert-classifier", "roberta"), [BERT]),
    **dict.fromkeys(("deberta-v3", "deberta-v3-masked", "deberta-v2-xlarge"), [BERT]),
    **dict.fromkeys(("t5", "t5-v1.1"), [["layer.0", "layer.1"], ["layer.0", "layer.1", "layer.2"]]),
    "m2m100": [["self_attn", "rest"], ["self_attn", "encoder_attn", "rest"]],
}
# Attention and MLP read the same input; BLOOM's add the residual themselves.
PARALLEL = {
    "gptj": ({"n_embd": 16, "n_layer": 2, "n_head": 4, "rotary_dim": 4}, ["attn", "mlp"]),
    "falcon": (
        {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4},
        ["self_attention", "mlp"],
    ),
    "phi": (
        {
            **{"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2},
            "num_attention_heads": 4,
        },
        LLAMA,
    ),
    "bloom": ({"hidden_size": 16, "n_layer": 2, "n_head": 4}, ["self_attention", "mlp"]),
}


@torch.no_grad()
def found(model, find=block_parts.parts_of):
    """Return {block: its parts}, after checking that they have all its linears, each once."""
    tokens = torch.randint(2, 60, (2, 12), generator=torch.Generator().manual_seed(0))
    parts = {}
    with evaluating(model):
        replay = Replay(model, find_blocks(model), tokens)
        for index, block in enumerate(replay.blocks.names):
            parts[block] = find(replay, index)
            named = [name for part in parts[block] for name in part.linears]
            assert sorted(named) == sorted(replay.linears(index))
            replay.advance_all(index)
    return parts


def ends(parts):
    """Return the names of parts inside their block, by block."""
    return {
        block: [part.name.removeprefix(f"{block}.") for part in parts[block]] for block in parts
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parts_are_attention_and_mlp(name):
    stacks = dict(zip(ARCHITECTURES[name].stacks, PARTS[name], strict=True))
    for block, parts in ends(found(build(name))).items():
        assert parts == stacks[block.rpartition(".")[0]], block


@pytest.mark.parametrize("kind", PARALLEL)
def test_parts_of_parallel_blocks(kind):
    settings, expected = PARALLEL[kind]
    config = transformers.AutoConfig.for_model(kind, vocab_size=64, **settings)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    assert all(parts == expected for parts in ends(found(model)).values())


@pytest.mark.parametrize("kind", expert_models.MODELS)
def test_experts_are_a_part_together(kind):
    assert all(parts == LLAMA for parts in ends(found(expert_models.build(kind))).values())


def test_a_whole_block_is_one_part():
    parts = found(build("llama"), block_parts.whole)
    assert all([part.name for part in listed] == [block] for block, listed in parts.items())
