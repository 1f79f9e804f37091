"""Passages of a split's text: token sequences with the windows that a protocol scores in them.

Perplexity and the comparison with the dense model read the same ones (docs/explanations/
perplexity.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from prunegrid.common.errors import PrunegridError
from prunegrid.data.rows import SEPARATOR
from prunegrid.evaluation.perplexity import Window, count_words, plan_rolling, plan_windows


class Passage(NamedTuple):
    """A text, or one of its documents, in windows.

    Attributes:
        tokens: what the windows are cut from.
        plan: its windows.
        words: of a document that is one row of the result; None where each window is a row.
    """

    tokens: Sequence[int]
    plan: Sequence[Window]
    words: int | None = None

    @property
    def text_tokens(self) -> Sequence[int]:
        """Return the tokens of the text itself: those of a document stand behind a first one."""
        return self.tokens if self.words is None else self.tokens[1:]

    def rows(self, values: Sequence[Any]) -> list[Any]:
        """Return the rows' values, given those of the windows: a document's is their sum."""
        if self.words is None:
            return list(values)
        return [math.fsum(values) if isinstance(values[0], float) else sum(values)]


def passages(
    tokenizer: Any, texts: Sequence[str], settings: Mapping[str, Any], where: str
) -> list[Passage]:
    """Return the passages of texts: of windows one, all texts joined; by words one a document.

    Args:
        settings: {protocol, window, stride, max_windows, special_tokens}.

    Raises:
        PrunegridError: the text is too short, or no document can begin.
    """
    if settings["protocol"] == "words":
        return _documents(tokenizer, texts, settings, where)
    special = settings["special_tokens"]
    tokens = tokenizer(SEPARATOR.join(texts), add_special_tokens=special, verbose=False)
    plan = plan_windows(
        len(tokens["input_ids"]),
        settings["protocol"],
        settings["window"],
        settings.get("stride"),
        settings.get("max_windows"),
        where,
    )
    return [Passage(tokens["input_ids"], plan)]


def _documents(
    tokenizer: Any, texts: Sequence[str], settings: Mapping[str, Any], where: str
) -> list[Passage]:
    """Return a passage a document.

    Tokens are the harness's: the tokenizer's own special tokens stay, behind the one that every
    document begins with, unless the text has that by itself.
    """
    first = tokenizer.bos_token_id
    first = tokenizer.eos_token_id if first is None else first
    if first is None:
        raise PrunegridError(
            "the tokenizer has neither a BOS nor an EOS token to begin with", where=where
        )
    found = []
    begin = tokenizer.decode([first])
    for text in [text for text in texts if text.strip()][: settings.get("max_windows")]:
        special = not text.startswith(begin)
        tokens = tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        plan = plan_rolling(len(tokens) + 1, settings["window"])
        found.append(Passage([first, *tokens], plan, count_words(text)))
    return found
