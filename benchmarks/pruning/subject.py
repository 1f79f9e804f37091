"""What is pruned: OPT-125m's architecture with seeded random weights, and seeded random tokens.

Both sides load it from the same folder, so it is the same to the bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SAMPLES, LENGTH = 16, 512
BLOCKS, HIDDEN, FFN, HEADS, VOCAB = 12, 768, 3072, 12, 50272
BLOCK_CLASS = "OPTDecoderLayer"
LINEARS = 72
SEED = 0


def write(folder: Path) -> None:
    """Write the model and the tokens into a folder, unless they are there."""
    if (folder / "tokens.npy").exists():
        return
    build().save_pretrained(folder)
    np.save(folder / "tokens.npy", draw(SAMPLES, LENGTH).numpy())


def build(**changes: int) -> nn.Module:
    """Return the model in float32, in eval mode.

    Args:
        changes: values of its config that differ: for a smaller one.
    """
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(SEED)
    sizes = {
        "hidden_size": HIDDEN,
        "word_embed_proj_dim": HIDDEN,
        "ffn_dim": FFN,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "vocab_size": VOCAB,
        "max_position_embeddings": 2048,
    }
    return OPTForCausalLM(OPTConfig(**sizes | changes)).eval()


def draw(samples: int, length: int, vocabulary: int = VOCAB) -> Tensor:
    """Return the tokens, int64 [samples, length]."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, vocabulary, (samples, length), generator=generator)


def load(folder: Path) -> tuple[nn.Module, Tensor]:
    """Return the model in float32 and the tokens, int64 [samples, length]."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, torch.from_numpy(np.load(folder / "tokens.npy"))


def linears(model: nn.Module) -> dict[str, Tensor]:
    """Return name → weight [d_out, d_in] of the linears that are to be pruned."""
    return {
        name: module.weight.detach()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "lm_head" not in name
    }


def outcome(weights: dict[str, Tensor], pattern: str) -> dict[str, Any]:
    """Return what became of the linears: how many, their sparsities, broken groups of four."""
    sparsities = [float((weight == 0).double().mean()) for weight in weights.values()]
    broken = 0
    if pattern == "2:4":
        broken = sum(
            int(((weight != 0).reshape(-1, 4).sum(1) > 2).sum()) for weight in weights.values()
        )
    return {
        "linears": len(weights),
        "sparsity_lowest": min(sparsities),
        "sparsity_highest": max(sparsities),
        "broken_groups": broken,
    }


def save_masks(path: Path, weights: dict[str, Tensor]) -> None:
    """Write which weights stay, one bit each."""
    np.savez(path, **{name: np.packbits((w != 0).numpy()) for name, w in weights.items()})


def agreement(one: Path, other: Path) -> float:
    """Return the fraction of weights on which two files of masks agree."""
    equal = total = 0
    with np.load(one) as left, np.load(other) as right:
        for name in left.files:
            unequal = int(np.unpackbits(left[name] ^ right[name]).sum())
            total += left[name].size * 8
            equal += left[name].size * 8 - unequal
    return equal / total
