"""Models of GGUF files, with every weight dequantized."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunegrid.common.errors import PrunegridError, explained
from prunegrid.data.sources import accounts, gguf_tokenizer
from prunegrid.models import forward, loading
from prunegrid.models.attestation import require_finite

# Keys of transformers' config that describe the file and not the model.
NOT_OF_THE_MODEL = ("quantization_config", "_name_or_path", "_model_name_or_path", "dtype")


def load(path: Path, dtype: torch.dtype, where: str) -> tuple[nn.Module, Any, str]:
    """Return (model in eval mode on the CPU, tokenizer, note) of a `.gguf` file.

    transformers attaches a GGUF quantizer to what it loads, which refuses to be saved, cast or
    trained. So the dequantized weights are copied into a model made from a clean config.

    Raises:
        PrunegridError: the file cannot be read, or does not hold all tensors of its model.
    """
    loading.import_models()
    from transformers import AutoConfig, AutoModelForCausalLM

    damaged = PrunegridError(
        "not readable as GGUF",
        where=str(path),
        expected="a whole GGUF file of a causal language model that transformers knows",
        remedy="it may be truncated: delete it and download it again",
    )
    with explained(damaged):
        tokenizer, rebuilt = gguf_tokenizer.load(path, where)
        loaded, info = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    accounts.account(loaded, info, "causal-lm", where, {})
    settings = loaded.config.to_dict()
    for name in NOT_OF_THE_MODEL:
        settings.pop(name, None)
    config = AutoConfig.for_model(settings.pop("model_type"), **settings)
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors = loaded.state_dict()
    require_finite(tensors, where)
    model.load_state_dict(tensors, strict=True)
    model.tie_weights()
    model.generation_config = loaded.generation_config
    del loaded, tensors
    positions = forward.max_positions(model)
    if tokenizer.model_max_length > 10**9 and positions:  # GGUF does not say; the model does
        tokenizer.model_max_length = positions
    return model.to(dtype).eval(), tokenizer, f"{_quantization(path)} file, dequantized; {rebuilt}"


def _quantization(path: Path) -> str:
    """Return the name of the type that most weights of the file have, such as "Q4_1"."""
    from gguf import GGUFReader

    counts: Counter[str] = Counter()
    for tensor in GGUFReader(path).tensors:
        counts[tensor.tensor_type.name] += int(tensor.n_elements)
    return counts.most_common(1)[0][0]
