"""Sources of translations: documents as an encoder reads them, and its decoder's text.

A multilingual tokenizer (M2M100's) is set to the source's language, and generation begins with the
target's token; a model without such tokens (T5) reads the languages in its prompt's template.
Scores are of decoded text, special tokens left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.data.prompts import SLOT, Prompt, cut_words


class Sources:
    """Tokenizes documents for an encoder, and decodes its decoder's tokens.

    Args:
        tokenizer: of the model.
        settings: of the step: prompt {template, max_words}, languages [source, target] or None.
        positions: of the encoder (None: no limit).
        where: label for errors.

    Attributes:
        forced: the token that each translation begins with; None without languages.

    Raises:
        PrunegridError: the tokenizer does not know a language, or languages at all.
    """

    def __init__(self, tokenizer: Any, settings: Mapping, positions: int | None, where: str):
        self.tokenizer, self.positions, self.prompt = tokenizer, positions, settings["prompt"]
        self.forced: int | None = None
        # M2M100's languages are no special tokens to transformers 5, and no text either.
        languages = getattr(tokenizer, "lang_code_to_id", None) or {}
        self._hidden = {*tokenizer.all_special_ids, *languages.values()}
        if settings["languages"] is None:
            return
        source, target = settings["languages"]
        known = getattr(tokenizer, "lang_code_to_token", None)
        if known is None:
            raise PrunegridError(
                f"{type(tokenizer).__name__} has no tokens for languages",
                where=where,
                remedy="leave `languages` out, and say it in the data set's `prompt`",
            )
        for language in (source, target):
            if language not in known:
                raise PrunegridError(
                    f"the tokenizer has no language '{language}'",
                    where=where,
                    remedy=nearest(language, known),
                )
        tokenizer.src_lang = source
        self.forced = tokenizer.get_lang_id(target)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones and languages left out, without outer space."""
        shown = [token for token in ids if token not in self._hidden]
        return self.tokenizer.decode(shown, clean_up_tokenization_spaces=False).strip()

    def source(self, document: str) -> Prompt:
        """Return the tokens of a document, special ones included, cut to the model's positions."""
        shown = cut_words(document, self.prompt["max_words"])
        text = self.prompt["template"].replace(SLOT, shown)
        ids = self.tokenizer(text, verbose=False)["input_ids"]
        # Encoders learn the end of a text, which a tokenizer of bytes does not mark by itself.
        end = self.tokenizer.eos_token_id
        marked = ids[-1] == end
        over = self.positions is not None and len(ids) + (not marked) > self.positions
        if over:
            room = self.positions - (not marked)
            ids = self.tokenizer(text, truncation=True, max_length=room)["input_ids"]
            ids = self._whole(ids[:-1] if marked else ids) + [end]
        elif not marked:
            ids = [*ids, end]
        return Prompt(ids, shown != document, over)

    def _whole(self, ids: list[int]) -> list[int]:
        """Return tokens without those at the end that hold a part of a character's bytes."""
        for end in range(len(ids), len(ids) - 4, -1):
            if not self.tokenizer.decode(ids[:end]).endswith("\ufffd"):
                return ids[:end]
        return ids
