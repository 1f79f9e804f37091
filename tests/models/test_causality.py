"""Whether a model's tokens see those after them: asked of the model, not of its config."""

import pytest
import torch
from transformers import AutoModelForCausalLM, BertGenerationConfig, BertGenerationDecoder

from prunegrid.common.errors import PrunegridError
from prunegrid.models.causality import require_causal
from tests.helpers import tiny

pytestmark = pytest.mark.model

SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"intermediate_size": 64, "max_position_embeddings": 32, "bos_token_id": 2}
SMALL |= {"eos_token_id": 1, "pad_token_id": 0}


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoders_pass_and_keep_their_mode(kind, dtype):
    model = tiny.model(kind, dtype=dtype)
    require_causal(model, "t")
    assert not model.training
    model.train()
    require_causal(model, "t")
    assert model.training


@pytest.mark.parametrize("decoder", [True, False])
def test_a_config_that_says_no_decoder_is_seen_in_what_it_computes(decoder):
    torch.manual_seed(0)
    model = BertGenerationDecoder(BertGenerationConfig(**SMALL, is_decoder=decoder)).eval()
    if decoder:
        require_causal(model, "t")
        return
    with pytest.raises(PrunegridError, match="BertGenerationDecoder says of a token depends"):
        require_causal(model, "here")


def test_one_layer_that_looks_ahead_is_enough():
    model = AutoModelForCausalLM.from_config(tiny.configs()["gpt2"]).eval()
    block = model.transformer.h[1]
    own = block.forward
    block.forward = lambda hidden, *args, **kw: own(hidden + 0.1 * hidden.flip(1), *args, **kw)
    with pytest.raises(PrunegridError, match="depends on those after"):
        require_causal(model, "t")


def test_logits_that_depend_on_the_length_are_seen():
    model = AutoModelForCausalLM.from_config(tiny.configs()["gpt2"]).eval()
    own = model.transformer.h[0].forward
    model.transformer.h[0].forward = lambda hidden, *args, **kw: own(
        hidden * hidden.shape[1], *args, **kw
    )
    with pytest.raises(PrunegridError, match="depends on those after"):
        require_causal(model, "t")
