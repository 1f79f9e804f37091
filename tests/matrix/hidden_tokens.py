"""The rows of a step with the tokens that are hidden from a masked language model."""

from __future__ import annotations

from pathlib import Path

import transformers

from prunegrid.finetuning.training.objectives import Masking
from prunegrid.finetuning.training.token_batches import Example
from tests.matrix import oracle
from tests.matrix.checks import require, require_equal
from tests.matrix.subjects import EOS, VOCABULARY, Subject


def rows_of(subject: Subject, folder: Path, split: str, draw: str) -> list[oracle.Row]:
    """Return the rows of a split; of an encoder with the tokens that the library's draw hides.

    How many are hidden, and that none is a special one or of a prompt, is checked here.
    """
    rows = subject.tokens(folder, split)
    if subject.task != "masked-lm":
        return rows
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    masking = Masking.of(tokenizer, VOCABULARY, "response", subject.job().seed("masking"), "")
    examples = [Example(row.prompt, row.response) for row in rows]
    hidden = [example.hidden for example in masking.hide(examples, draw)]
    for row, places in zip(rows, hidden, strict=True):
        tokens = row.prompt + row.response
        free = [i for i in range(len(row.prompt), len(tokens)) if tokens[i] != EOS]
        require(set(places) <= set(free), "another token than one of the response is hidden")
        require_equal("hidden tokens", len(places), max(1, round(0.15 * len(free))))
    return [oracle.Row(r.prompt, r.response, h) for r, h in zip(rows, hidden, strict=True)]
