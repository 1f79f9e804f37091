"""Models of random weights with a byte-level tokenizer, from a config: for tests only."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from prunegrid.common.errors import PrunegridError, explained
from prunegrid.models import loading

# The ids that OPT and RoBERTa give them, whose position tables depend on the pad id.
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
BOS, PAD, EOS, UNK = range(4)
SMALLEST_VOCABULARY = len(SPECIALS) + 256


def build(source: dict, task: str, dtype: torch.dtype, where: str) -> tuple[nn.Module, Any]:
    """Return (model in eval mode, tokenizer) of a `random` source.

    Biases and norms are drawn too: left at 0 and 1, as training starts, they hide mistakes.

    Args:
        source: config {model_type, …}, seed, and tokenizer {add_bos, chat_template, max_length}.
        task: as `prunegrid.models.loading` lists them.

    Raises:
        PrunegridError: transformers cannot make a model of the config.
    """
    loading.import_models()
    from transformers import AutoConfig

    settings = _settings(source["config"], task, where)
    kind = settings.pop("model_type", None)
    wrong = PrunegridError(
        "no model can be made of this config",
        where=where,
        expected="a model_type of transformers with its own settings",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(source.get("seed") or 0))
        with explained(wrong):
            config = AutoConfig.for_model(kind, **settings)
            loading.require_task(config, task, where)
            auto = loading.auto_class(loading.of_task(task))
            model = auto.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for vector in (p for p in model.parameters() if p.dim() == 1):
                vector.add_(0.05 * torch.randn_like(vector))
    options = source.get("tokenizer") or {}
    tokenizer = byte_tokenizer(
        max_length=options.get("max_length") or getattr(config, "max_position_embeddings", None),
        add_bos=bool(options.get("add_bos", False)),
        encoder=task in ("encoder", "masked-lm"),
        chat_template=options.get("chat_template"),
    )
    return model.to(dtype).eval(), tokenizer


def _settings(given: dict, task: str, where: str) -> dict:
    """Return the settings of a config, with the tokens and the vocabulary of the tokenizer."""
    roles = {"bos_token_id": BOS, "pad_token_id": PAD, "eos_token_id": EOS}
    if task == "seq2seq-lm":
        roles["decoder_start_token_id"] = BOS
    settings = roles | {"vocab_size": SMALLEST_VOCABULARY} | given
    size = settings["vocab_size"]
    if not isinstance(size, int) or size < SMALLEST_VOCABULARY:
        raise PrunegridError(
            f"random.config.vocab_size is {size!r}",
            where=where,
            expected=f"at least {SMALLEST_VOCABULARY}: 256 bytes and {len(SPECIALS)} specials",
        )
    return settings


def byte_tokenizer(
    max_length: int | None, add_bos: bool, encoder: bool, chat_template: str | None = None
):
    """Return a tokenizer of the 256 bytes and four specials, which decodes any text exactly."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIALS, *letters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=SPECIALS[UNK]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if encoder or add_bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>" if encoder else "<s> $A",
            pair="<s> $A </s> $B </s>" if encoder else "<s> $A $B",
            special_tokens=[("<s>", BOS), ("</s>", EOS)],
        )
    roles = {"bos_token": BOS, "pad_token": PAD, "eos_token": EOS, "unk_token": UNK}
    if encoder:
        # No text of bytes has an unknown token, so that one can hide others.
        roles |= {"cls_token": BOS, "sep_token": EOS, "mask_token": UNK}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        **({"model_max_length": max_length} if max_length else {}),
        **{role: SPECIALS[index] for role, index in roles.items()},
    )
    tokenizer.chat_template = chat_template
    return tokenizer
