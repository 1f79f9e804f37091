"""The training examples of a fine-tuning step: rows of summaries, or windows of a text.

A text's documents are joined by blank lines and cut into windows of `window` tokens, one after the
other as in the papers' perplexity, the remainder dropped; each is an example without a prompt, so
its every token but the first has a loss. Windows of a masked language model hold the special tokens
of its tokenizer too.
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
        task: of the model: a masked language model reads texts between its tokenizer's special
            tokens.
        where: label for errors.
    """

    def __init__(
        self,
        data: Path,
        settings: dict,
        tokenizer: Any,
        positions: int | None,
        task: str,
        where: str,
    ) -> None:
        self.data, self.settings, self.tokenizer, self.where = data, settings, tokenizer, where
        self.of_text = "window" in settings
        self.labels: list[str] = []
        if self.of_text:
            require_length(settings["window"], positions, "finetune.window", where)
        else:
            reads = task in ("masked-lm", "encoder")
            prompt = settings["prompt"]
            self.prompter = prompts.Prompter(tokenizer, prompt, positions, where, reads)
        self.frame = frame(tokenizer) if task == "masked-lm" else ([], [])

    def read(self, split: str, limit: int | None) -> tuple[list[Example], dict[str, Any]]:
        """Return the first `limit` examples of a split, and what is recorded of them.

        Raises:
            PrunegridError: the split is missing or too short.
        """
        if self.settings["loss_on"] == "label":
            return self._labelled(split, limit)
        return (self._windows if self.of_text else self._rows)(split, limit)

    def _windows(self, split: str, limit: int | None) -> tuple[list[Example], dict[str, Any]]:
        window = self.settings["window"]
        text = SEPARATOR.join(read_texts(self.data, split, self.settings["column"], self.where))
        tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        before, behind = self.frame
        length = window - len(before) - len(behind)
        starts = range(0, len(tokens) - length + 1, length)[:limit] if length > 0 else []
        if not starts:
            raise PrunegridError(
                f"the split '{split}' has {len(tokens)} tokens",
                where=self.where,
                expected=f"at least one window of {max(length, 1)}",
                remedy="use a longer text or a smaller finetune.window",
            )
        pieces = (tokens[start : start + length] for start in starts)
        windows = [Example([], [*before, *piece, *behind]) for piece in pieces]
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

    def _labelled(self, split: str, limit: int | None) -> tuple[list[Example], dict[str, Any]]:
        """Return texts between special tokens, each with the number of its label as response."""
        rows = read_rows(self.data, split, limit, self.where)
        names = [row["summary"].strip() for row in rows]
        self.labels = self.labels or sorted(set(names))
        unknown = sorted(set(names) - set(self.labels))
        if unknown or len(self.labels) < 2:
            what = f"has the label {unknown[0]!r}" if unknown else "has one label alone"
            raise PrunegridError(
                f"the split '{split}' {what}",
                where=self.where,
                expected=f"labels that are learned, at least two; these are {self.labels[:5]}",
                remedy="learn more rows, or name the column of labels as `summary`",
            )
        filled = [self.prompter.prompt(row["document"], 1, row["id"]) for row in rows]
        examples = [
            Example([*prompt.ids, self.prompter.eos], [self.labels.index(name)])
            for prompt, name in zip(filled, names, strict=True)
        ]
        return examples, {
            "share_cut_words": sum(prompt.cut_words for prompt in filled) / len(rows),
            "share_cut_context": sum(prompt.cut_context for prompt in filled) / len(rows),
            "share_cut_summaries": 0.0,
            "prompt_sha256": prompts.prompt_sha256([example.prompt for example in examples]),
        }


def frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before a text and behind it."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    return [], []


def count_learned(held: Sequence[Example], learned: Sequence[Example], where: str) -> int:
    """Return how many held-out rows have the prompt (without one: the text) of a learned one."""
    known = {tuple(row.prompt or row.response) for row in learned}
    count = sum(tuple(row.prompt or row.response) in known for row in held)
    if count:
        log.warning("%s: %d of %d development rows are learned too", where, count, len(held))
    return count
