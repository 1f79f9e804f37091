"""The training examples of a fine-tuning step: rows of summaries, or windows of a text.

A text's documents are joined by blank lines and cut into windows of `window` tokens, one after the
other as in the papers' perplexity, the remainder dropped; each is an example without a prompt, so
its every token but the first has a loss.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.data import prompts
from prunegrid.data.rows import SEPARATOR, read_rows, read_texts, require_length
from prunegrid.finetuning.training.token_batches import Example

log = logging.getLogger(__name__)


class Reader:
    """A reader of a data set's splits, which makes examples for one tokenizer.

    Args:
        data: the artifact of the data set.
        settings: of the finetune step: `prompt` and `max_summary_tokens` of a data set of
            summaries, `window` and `column` of one of texts.
        tokenizer: of the model.
        positions: tokens that the model can attend to (None: no limit).
        where: label for errors.
    """

    def __init__(
        self, data: Path, settings: dict, tokenizer: Any, positions: int | None, where: str
    ) -> None:
        self.data, self.settings, self.tokenizer, self.where = data, settings, tokenizer, where
        self.of_text = "window" in settings
        if self.of_text:
            require_length(settings["window"], positions, "finetune.window", where)
        else:
            self.prompter = prompts.Prompter(tokenizer, settings["prompt"], positions, where)

    def read(self, split: str, limit: int | None) -> tuple[list[Example], dict[str, Any]]:
        """Return the first `limit` examples of a split, and what is recorded of them.

        Raises:
            PrunegridError: the split is missing or too short.
        """
        return (self._windows if self.of_text else self._rows)(split, limit)

    def _windows(self, split: str, limit: int | None) -> tuple[list[Example], dict[str, Any]]:
        window = self.settings["window"]
        text = SEPARATOR.join(read_texts(self.data, split, self.settings["column"], self.where))
        tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        starts = range(0, len(tokens) - window + 1, window)[:limit]
        if not starts:
            raise PrunegridError(
                f"the split '{split}' has {len(tokens)} tokens",
                where=self.where,
                expected=f"at least one window of {window}",
                remedy="use a longer text or a smaller finetune.window",
            )
        windows = [Example([], tokens[start : start + window]) for start in starts]
        return windows, {"window": window}

    def _rows(self, split: str, limit: int | None) -> tuple[list[Example], dict[str, Any]]:
        rows = read_rows(self.data, split, limit, self.where)
        examples, words, context, summaries = [], 0, 0, 0
        for row in rows:
            response, cut = self.prompter.response(
                row["summary"], self.settings.get("max_summary_tokens")
            )
            prompt = self.prompter.prompt(row["document"], len(response), row["id"])
            examples.append(Example(prompt.ids, response))
            words, context = words + prompt.cut_words, context + prompt.cut_context
            summaries += cut
        return examples, {
            "share_cut_words": words / len(rows),
            "share_cut_context": context / len(rows),
            "share_cut_summaries": summaries / len(rows),
            "prompt_sha256": prompts.prompt_sha256([example.prompt for example in examples]),
        }


def count_learned(held: Sequence[Example], learned: Sequence[Example], where: str) -> int:
    """Return how many held-out rows have the prompt (without one: the text) of a learned one."""
    known = {tuple(row.prompt or row.response) for row in learned}
    count = sum(tuple(row.prompt or row.response) in known for row in held)
    if count:
        log.warning("%s: %d of %d development rows are learned too", where, count, len(held))
    return count
