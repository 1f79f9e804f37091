"""Lead-k: the first k words of the document as its summary.

Texts often say first what matters most, so this is hard to beat; a model that does no better has
learned little.
"""

from __future__ import annotations

import pandas as pd

from prunegrid.evaluation.setting_checks import require_number

CITE: tuple[str, ...] = ()  # none: the first words of the document
ROLE = "baseline"
SETTINGS = {"words": 64}
MEANINGS = {
    "words": "The number of words.",
}


def predict(rows: pd.DataFrame, settings: dict, seed: int | None) -> list[str]:
    """Return the first `words` words of each document, joined by single spaces."""
    require_number("words", settings["words"], 1)
    return [" ".join(document.split()[: settings["words"]]) for document in rows["document"]]
