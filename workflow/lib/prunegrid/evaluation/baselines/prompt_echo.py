"""The prompt given back: the filled template, document and all. It games metrics of overlap.

The document is cut as the prompt profile says in words (`max_words`); a cut in tokens needs a
tokenizer and is not made here, and the marks that a chat template adds are not in the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from prunegrid.common.errors import PrunegridError
from prunegrid.data.prompts import SLOT, cut_words

ROLE = "gaming"
SETTINGS = {"words": None}
READS = ("prompt",)


def predict(rows: pd.DataFrame, settings: Mapping[str, Any], seed: int | None) -> list[str]:
    """Return each row's prompt, without outer blank space.

    Args:
        rows: column document (str).
        settings: {"words": how many words of the prompt to give back; None: all; "prompt": the
            data set's prompt profile}.
        seed: not used: nothing is drawn.

    Raises:
        PrunegridError: words is not a whole number of at least 1.
    """
    limit, prompt = settings["words"], settings["prompt"]
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise PrunegridError(
            f"words is {limit!r}",
            where="baseline prompt_echo",
            expected="a whole number of at least 1",
        )
    shown = [cut_words(document, prompt["max_words"]) for document in rows["document"]]
    filled = [prompt["template"].replace(SLOT, document).strip() for document in shown]
    return [cut_words(text, limit) for text in filled]
