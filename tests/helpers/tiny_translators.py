"""Small random encoder-decoders as artifacts of weights."""

from __future__ import annotations

import torch

from prunegrid.data.sources import tiny as small
from prunegrid.models import checkpoint
from tests.helpers import tiny

T5 = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
M2M = {"model_type": "m2m_100", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2}
M2M |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
M2M |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "dropout": 0.0}
M2M |= {"attention_dropout": 0.0, "encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0}
CONFIGS = {"t5": {**T5, "dropout_rate": 0.0}, "m2m100": M2M}


def build(name, seed=0):
    source = {"config": CONFIGS[name], "seed": seed}
    return small.build(source, "seq2seq-lm", torch.float32, "t")


def weights(folder, name="m2m100", pattern=None):
    model, tokenizer = build(name)
    tiny.prune_(model, pattern)
    folder.mkdir(parents=True)
    tiny.finish(folder, checkpoint.write_plain(model, tokenizer, folder, pattern).record)
    return folder
