"""llm-compressor's side, run by the Python of its own environment.

    python theirs.py FOLDER METHOD PATTERN RESULT

Its modifiers are used as its documentation says: the sequential pipeline over decoder layers, the
calibration windows as a data set of token ids.
"""

from __future__ import annotations

import sys
from pathlib import Path

import measured
import subject
import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

MODIFIERS = {"wanda": WandaPruningModifier, "sparsegpt": SparseGPTModifier}


def main(folder: Path, method: str, pattern: str, result: Path) -> None:
    """Prune once and write what it took and what came out."""
    torch.set_num_threads(1)
    model, tokens = subject.load(folder)
    windows = Dataset.from_dict(
        {"input_ids": tokens.tolist(), "attention_mask": torch.ones_like(tokens).tolist()}
    )
    modifier = MODIFIERS[method](
        sparsity=0.5,
        mask_structure="2:4" if pattern == "2:4" else "0:0",
        targets=["Linear"],
        ignore=["re:.*lm_head"],
    )
    facts = measured.measured(
        lambda: oneshot(
            model=model,
            processor=_unused_tokenizer(),
            dataset=windows,
            recipe=modifier,
            pipeline="sequential",
            sequential_targets=[subject.BLOCK_CLASS],
            batch_size=1,
            max_seq_length=tokens.shape[1],
            num_calibration_samples=len(tokens),
            shuffle_calibration_samples=False,
        )
    )
    weights = subject.linears(model)
    subject.save_masks(result.with_suffix(".npz"), weights)
    measured.save(result, {**facts, **subject.outcome(weights, pattern)})


def _unused_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer, which llm-compressor asks for though the data set is tokenized."""
    words = Tokenizer(WordLevel({"<pad>": 0}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<pad>")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
