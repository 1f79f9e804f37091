"""Small random encoders as artifacts of weights."""

from __future__ import annotations

import torch

from prunegrid.data.sources import tiny as small
from prunegrid.models import checkpoint
from tests.helpers import tiny

CONFIG = {"model_type": "bert", "hidden_size": 32, "intermediate_size": 64}
CONFIG |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64}


def weights(folder, pattern=None, seed=0, config=CONFIG, task="encoder"):
    """A weights artifact of a small random encoder with a tokenizer of bytes."""
    model, tokenizer = small.build({"config": config, "seed": seed}, task, torch.float32, "t")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.dim() > 1:  # as drawn, all texts have nearly the same states
                parameter.normal_(0, 0.2)
    tiny.prune_(model, pattern)
    folder.mkdir(parents=True)
    tiny.finish(folder, checkpoint.write_plain(model, tokenizer, folder, pattern).record)
    return folder
