"""The token ids of one fixed text: whether a tokenizer still is the one that a model came with.

Files alone do not tell. Another release of a library, or a tokenizer that was saved again, can cut
the same text otherwise, and every score of such a model is of other prompts. So the import of a
model records a digest of these ids, and each later load compares its own.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from prunegrid.artifacts.artifact_folder import MANIFEST
from prunegrid.common.file_io import json_sha256, read_json

log = logging.getLogger(__name__)

RECORDED = "token_ids_sha256"  # in the record of the stage `model`
# Latin with marks and ligatures, digits, runs of white space, Greek, Cyrillic, Arabic, CJK, Hangul
# in parts, emoji with joiners, code. A change of it changes every key.
TEXT = (
    "The quick brown fox, it'll DON'T — naïve cafe\u0301 ﬁne Straße.  Two  spaces,\ta tab\n\n\n"
    "0 7 42 1999 3,141.59 1e-5 0x1F ½ x² ٣٤ №5\n"
    "Ελληνικά русский العربية 日本語の文章、漢字。 中文字符 한국어 \u1112\u1161\u11ab\n"
    "🙂 👩\u200d💻 🇫🇷 👍🏽 ™ → ∑ \u00a0\u200b\ufeff\n"
    "def f(x: int) -> str:\n    return 'a_b' + str(x)  # todo\n"
    "\tif (a && b || !c) { x += 1; }\r\n"
    "https://example.org/a?b=c&d=%20 <s> </s> [CLS] <|endoftext|> user@example.org"
)


def ids_sha256(tokenizer: Any) -> str:
    """Return the digest of the ids of the text, special tokens included.

    Args:
        tokenizer: of transformers, one that refuses no text (see `bounded_tokenizer`).
    """
    return json_sha256(list(tokenizer(TEXT, verbose=False)["input_ids"]))


_listener: Callable[[str], None] | None = None


@contextlib.contextmanager
def listening(told: Callable[[str], None]) -> Iterator[None]:
    """Call `told` with the name of each folder whose tokenizer gives other ids, while it lasts."""
    global _listener
    before, _listener = _listener, told
    try:
        yield
    finally:
        _listener = before


def compare(tokenizer: Any, folder: Path) -> None:
    """Tell, in the log and to who listens, if a tokenizer gives other ids than it did at import.

    Nothing is compared where the folder is no artifact, or one of an older release.

    Args:
        tokenizer: as of `ids_sha256`.
        folder: of a weights artifact, plain or in parts.
    """
    recorded = _recorded(folder)
    if recorded is None or ids_sha256(tokenizer) == recorded:
        return
    log.warning(
        "%s: the tokenizer gives other token ids than it gave when the model was imported; scores "
        "are of other prompts than those of the dense model",
        folder,
    )
    if _listener is not None:
        _listener(str(folder))


def _recorded(folder: Path) -> str | None:
    """Return the digest that the first step of an artifact's chain recorded."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    chain = [*manifest.get("lineage", ()), manifest]
    return chain[0].get("record", {}).get(RECORDED)
