"""The prompt given back: the filled template, document and all. It games metrics of overlap.

The document is cut as the prompt profile says in words (`max_words`). A cut in tokens needs a
tokenizer and is not made here, and the marks that a chat template adds are not in the text.
"""

from __future__ import annotations

import pandas as pd

from prunegrid.data.prompts import SLOT, cut_words
from prunegrid.evaluation.setting_checks import require_number

CITE: tuple[str, ...] = ()  # none: a control of this project
ROLE = "gaming"
SETTINGS = {"words": None}
MEANINGS = {
    "words": "The most words. By default the whole prompt.",
}
READS = ("prompt",)


def predict(rows: pd.DataFrame, settings: dict, seed: int | None) -> list[str]:
    """Return the first `words` words of each row's prompt (None: all), without outer space."""
    limit, prompt = settings["words"], settings["prompt"]
    if limit is not None:
        require_number("words", limit, 1)
    documents = [cut_words(document, prompt["max_words"]) for document in rows["document"]]
    prompts = [prompt["template"].replace(SLOT, document).strip() for document in documents]
    return [cut_words(text, limit) for text in prompts]
