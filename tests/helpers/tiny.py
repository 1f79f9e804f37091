"""Small models, tokenizers, data and jobs for the tests of checkpoints, tuning and generation."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.models import blocks, checkpoint

WORDS = [f"w{i}" for i in range(40)]
SPECIAL = ["<pad>", "</s>", "<unk>"]
TEMPLATE = "text : {document} summary :"
VOCABULARY = 64


def configs() -> dict:
    """Return one small config an architecture; widths are multiples of 64 (NF4's block)."""
    tokens = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    return {
        "opt": OPTConfig(
            vocab_size=VOCABULARY, hidden_size=64, ffn_dim=128, num_hidden_layers=2,
            num_attention_heads=4, word_embed_proj_dim=32, max_position_embeddings=64,
            do_layer_norm_before=False, dropout=0.0, **tokens,
        ),
        "llama": LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
            tie_word_embeddings=True, **tokens,
        ),
        "gpt2": GPT2Config(
            vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=64,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **tokens,
        ),
    }  # fmt: skip


def tokenizer(pad: str | None = "<pad>", **named) -> PreTrainedTokenizerFast:
    """Return a tokenizer of whole words."""
    entries = [*SPECIAL, "text", "summary", ":", "END", *WORDS]
    model = models.WordLevel({word: i for i, word in enumerate(entries)}, unk_token="<unk>")
    inner = Tokenizer(model)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {"eos_token": "</s>", "unk_token": "<unk>"} | named
    if pad is not None:
        roles["pad_token"] = pad
    return PreTrainedTokenizerFast(tokenizer_object=inner, **roles)


def model(kind: str, seed: int = 0, dtype: torch.dtype = torch.float32):
    """Return a random model with weights large enough to say something."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(configs()[kind])
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.1)
    return made.to(dtype).eval()


def prune_(made, pattern: str | None) -> None:
    """Set the smallest weights to zero, in place: N of every M, or half of each row."""
    if pattern is None:
        return
    keep, group = (int(p) for p in pattern.split(":")) if ":" in pattern else (None, None)
    for module in blocks.prunable(made).values():
        weight = blocks.oriented(module)
        parts = weight.reshape(weight.shape[0], -1, group or weight.shape[1])
        chosen = parts.abs().topk(keep or parts.shape[-1] // 2, dim=-1).indices
        mask = torch.zeros_like(parts, dtype=torch.bool).scatter_(-1, chosen, True)
        weight.mul_(mask.reshape(weight.shape))


def artifact(folder: Path, kind: str, pattern: str | None = None, **named) -> Path:
    """Return a plain weights artifact with its manifest."""
    made = model(kind, **named)
    prune_(made, pattern)
    folder.mkdir(parents=True)
    finish(folder, checkpoint.write_plain(made, tokenizer(), folder, pattern).record)
    return folder


def finish(folder: Path, weights: dict) -> None:
    """Write the manifest's record, as far as readers of weights need it."""
    file_io.write_json(folder / artifact_folder.MANIFEST, {"record": {"weights": weights}})


def data(
    folder: Path, rows: int = 24, words: int = 12, seed: int = 0, uneven: bool = False
) -> Path:
    """Return a data artifact: summaries are the first words of their documents.

    Three of them, or, where they are to be uneven, one to six.
    """
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    made = []
    for number in range(rows):
        document = [draw.choice(WORDS) for _ in range(words - number % 5)]
        summary = " ".join(document[: 1 + number % 6 if uneven else 3])
        made.append({"id": f"d{number}", "document": " ".join(document), "summary": summary})
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(made), folder / f"{split}.parquet")
    return folder


def job(
    device: str = "cpu", seed: int = 3, scratch: Path | None = None, every_s: float | None = None
) -> SimpleNamespace:
    """Return what a stage may ask of its surroundings."""
    return SimpleNamespace(
        device=device,
        where="test",
        threads=1,
        compute_dtype="float32",
        alone="machine",
        scratch=scratch,
        memory={"model": "whole", "activations": "device", "chunk": 8, "adapted": "auto"},
        training={"checkpoint_every_s": every_s},
        seed=lambda purpose: seed,
    )


def prompt(**changes) -> dict:
    """Return a prompt profile."""
    plain = {"template": TEMPLATE, "chat": False, "max_words": None, "max_tokens": None, "end": ""}
    return plain | changes


# The development loss rises from the third step on.
OVERFITTED = {
    "dev_split": "dev",
    "evaluate_every": 1,
    "learning_rate": 1e-2,
    "schedule": "constant",
    "warmup_steps": 0,
}


def held_out(folder: Path) -> Path:
    """Return a data folder whose split `dev` is of other rows than `train`."""
    data(folder, uneven=True)
    held = data(folder.with_name("held"), rows=7, seed=1, uneven=True)
    shutil.copy(held / "train.parquet", folder / "dev.parquet")
    return folder


def finetune(strategy: str, **changes) -> dict:
    """Return the settings of a finetune step."""
    return {
        "strategy": strategy,
        "split": "train",
        "rows": None,
        "dev_split": None,
        "dev_rows": None,
        "evaluate_every": None,
        "patience": None,
        "epochs": 2,
        "max_steps": None,
        "token_budget": None,
        "learning_rate": 3e-3,
        "learning_rates": None,
        "batch_size": 4,
        "accumulate": 1,
        "warmup_steps": 1,
        "weight_decay": 0.01,
        "schedule": "linear",
        "max_grad_norm": 1.0,
        "autocast": "float32",
        "loss_on": "response",
        "gradient_checkpointing": False,
        "processes": 1,
        "preserve_zeros": True,
        "adapter": {"lora": "merged", "qlora": "unmerged"}.get(strategy),
        "rank": 4,
        "alpha": 8,
        "dropout": 0.0,
        "targets": "all-linear",
        "quantization": "nf4",
        "double_quant": True,
        "max_summary_tokens": None,
        "prompt": prompt(),
    } | changes


def generation(**changes) -> dict:
    """Return the settings of a predictions step."""
    return {
        "split": "test",
        "rows": None,
        "prompt": prompt(),
        "max_new_tokens": 6,
        "batch_size": 5,
        "do_sample": False,
        "temperature": 1.0,
        "top_p": 1.0,
        "num_beams": 1,
        "stop": [],
        "reference_tokens": None,
        "cache_dequantized": False,
    } | changes
