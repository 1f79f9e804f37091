"""Lead-k: the first k words of the document as its summary.

Texts often say first what matters most, so this is hard to beat; a model that does no better has
learned little.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from prunegrid.common.errors import PrunegridError

ROLE = "baseline"
SETTINGS = {"words": 64}


def predict(rows: pd.DataFrame, settings: Mapping[str, Any], seed: int | None) -> list[str]:
    """Return the first `words` words of each document, joined by single spaces.

    Args:
        rows: column document (str).
        settings: {"words"}.
        seed: not used: nothing is drawn.

    Raises:
        PrunegridError: words is not a whole number of at least 1.
    """
    words = settings["words"]
    if isinstance(words, bool) or not isinstance(words, int) or words < 1:
        raise PrunegridError(
            f"words is {words!r}", where="baseline lead", expected="a whole number of at least 1"
        )
    return [" ".join(document.split()[:words]) for document in rows["document"]]
