"""A Llama of SmolLM2-135M's shape with seeded random weights, and seeded random tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SEED = 0
SHAPE = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
}
# Widths of the small form are multiples of 64, NF4's block.
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
}
# SmolLM2's own, 1/24. The norms' weights spread as in trained models: with all of them at 1, each
# input has the same size, and Wanda's masks would be those of magnitude.
SPREAD, NORM_SPREAD = 1 / 24, 0.5


def blocks(small: bool) -> int:
    """Return how many blocks the model has."""
    return (SMALL if small else SHAPE)["num_hidden_layers"]


def build(small: bool, **changes: int) -> nn.Module:
    """Return the model in float32, in eval mode on the CPU.

    Args:
        changes: values of the config that differ.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    sizes = (SMALL if small else SHAPE) | changes
    config = LlamaConfig(
        **sizes,
        initializer_range=SPREAD,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 and "norm" in name:
                parameter.copy_(torch.exp(NORM_SPREAD * torch.randn(parameter.shape)))
    return model.eval()


def draw(vocabulary: int, samples: int, length: int, seed: int) -> Tensor:
    """Return random tokens, int64 [samples, length]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(vocabulary, (samples, length), generator=generator)
