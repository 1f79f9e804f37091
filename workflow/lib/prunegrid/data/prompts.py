"""Prompts: documents in a template, cut to fit, tokenized apart from their response.

A prompt profile is {template, chat, chat_date, max_words, max_tokens, end}: `template` holds
`{document}` once; `chat` sends the filled template as one user turn through the tokenizer's chat
template, for which it is always `chat_date`; `max_words` cuts documents at the same place for every
tokenizer; `max_tokens` (of the legacy study) cuts them in this tokenizer's tokens; `end` stands
between the summary and EOS. A cut never halves a character.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import canonical_json
from prunegrid.data import chat_templates

SLOT = "{document}"
# Tokens that are given up at most for the whole character at a cut.
LONGEST_CHARACTER = 16
JOINER = "\u200d"  # makes one character of two, such as families and professions
SKINS = ("\U0001f3fb", "\U0001f3ff")  # the first and last colour of the emoji before it


@dataclass(frozen=True)
class Prompt:
    """One tokenized prompt.

    Attributes:
        ids: its tokens, special ones included.
        cut_words: whether `max_words` or `max_tokens` cut the document.
        cut_context: whether it was cut (further) to fit the model's positions.
    """

    ids: list[int]
    cut_words: bool
    cut_context: bool

    @property
    def cut(self) -> bool:
        """Return whether the model sees only a part of the document."""
        return self.cut_words or self.cut_context


def prompt_sha256(asked: Any) -> str:
    """Return one digest over all that was asked: the tokens of prompts, in order."""
    return hashlib.sha256(canonical_json(asked).encode()).hexdigest()


def cut_words(text: str, limit: int | None) -> str:
    """Return the text up to the end of its word number `limit`, its spacing kept."""
    if limit is None:
        return text
    for number, word in enumerate(re.finditer(r"\S+", text), start=1):
        if number == limit:
            # Blank space behind the last word is no cut.
            return text[: word.end()] if text[word.end() :].strip() else text
    return text


def _continues(before: str, behind: str) -> bool:
    """Return whether a text goes on with the character that another one ends with."""
    mark = behind[:1] or " "
    joined = before.endswith(JOINER) or mark == JOINER or SKINS[0] <= mark <= SKINS[1]
    return joined or unicodedata.category(mark).startswith("M")


class Prompter:
    """Prompts and responses of one tokenizer.

    Args:
        settings: a prompt profile.
        positions: tokens that the model can attend to (None: no limit).
        where: label for errors.
        reads: the model writes nothing, so a SEP may stand where there is no EOS (BERT's).

    Raises:
        PrunegridError: the template has not one slot, or the tokenizer no chat template that can
            be filled, or no EOS.
    """

    def __init__(
        self,
        tokenizer: Any,
        settings: dict,
        positions: int | None,
        where: str,
        reads: bool = False,
    ) -> None:
        self.tokenizer, self.positions, self.where = tokenizer, positions, where
        self.template: str = settings["template"]
        self.chat, self.date = bool(settings.get("chat")), settings.get("chat_date")
        self.max_words = settings.get("max_words")
        self.max_tokens = settings.get("max_tokens")
        self.end = settings.get("end") or ""
        if self.template.count(SLOT) != 1:
            raise PrunegridError(
                f"the prompt template holds {SLOT} {self.template.count(SLOT)} times",
                where=where,
                expected="once",
                remedy="write the template with one {document} in it",
            )
        if self.chat:
            self._fill("a document")  # a fault of the chat template is told before any row
        self.eos: int | None = tokenizer.eos_token_id
        if self.eos is None and reads:
            self.eos = tokenizer.sep_token_id
        if self.eos is None:
            raise PrunegridError(
                "the tokenizer has no end-of-sequence token",
                where=where,
                expected="one, so that summaries can end",
                remedy="use a tokenizer with an eos_token",
            )

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text without special ones."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones left out, without outer blank space."""
        return self._text(ids, skip_special_tokens=True).strip()

    def _fill(self, document: str) -> list[int]:
        # Not str.format: documents and templates may hold other braces.
        text = self.template.replace(SLOT, document)
        if not self.chat:
            ids = self.tokenizer(text)["input_ids"]
            # Some tokenizers end every text with EOS, after which a model writes nothing.
            return ids[:-1] if len(ids) > 1 and ids[-1] == self.eos else ids
        return self.encode(chat_templates.fill(self.tokenizer, text, self.date, self.where))

    def prompt(self, document: str, reserve: int, label: str) -> Prompt:
        """Return the prompt of a document, leaving `reserve` positions for the response.

        Raises:
            PrunegridError: the document is empty, or the template alone does not fit.
        """
        if not document.strip():
            raise PrunegridError(
                f"the document of {label} is empty",
                where=self.where,
                remedy="drop or mend that row of the data set",
            )
        shown = cut_words(document, self.max_words)
        if self.max_tokens is not None:
            shown = self.cut_tokens(shown, self.max_tokens)
        filled = self._fill(shown)
        room = None if self.positions is None else self.positions - reserve
        if room is None or len(filled) <= room:
            return Prompt(filled, shown != document, False)
        return Prompt(self._fit(shown, filled, room, label), shown != document, True)

    def cut_tokens(self, text: str, limit: int | None) -> str:
        """Return the text cut to `limit` tokens (None: all of it)."""
        if limit is None:
            return text
        ids = self.encode(text)
        return self._text(ids[: self._whole(ids, limit)]) if len(ids) > limit else text

    def _text(self, ids: Sequence[int], **options: bool) -> str:
        return self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False, **options)

    def _whole(self, ids: Sequence[int], limit: int) -> int:
        """Return how many of the first `limit` tokens end with a whole character.

        A token can hold a part of a character's bytes, and marks (accents, vowel signs) that are
        characters of their own to a tokenizer belong to the letter before them.
        """
        for end in range(limit, max(limit - LONGEST_CHARACTER, 0), -1):
            before, behind = self._text(ids[:end][-8:]), self._text(ids[end:][:8])
            if not before.endswith("\ufffd") and not _continues(before, behind):
                return end
        return limit

    def _fit(self, document: str, filled: list[int], room: int, label: str) -> list[int]:
        """Return the prompt after cutting the document's end until it fits into `room` tokens."""
        ids = self.encode(document)
        length = len(ids)
        while len(filled) > room:
            # Tokens that merge with the template's may need another round.
            length -= len(filled) - room
            if length <= 0:
                raise PrunegridError(
                    f"the prompt template leaves no room for the document of {label}",
                    where=self.where,
                    expected=f"at most {room} prompt tokens",
                    remedy="shorten the template or generate fewer tokens",
                )
            length = self._whole(ids, length)
            filled = self._fill(self._text(ids[:length]))
        return filled

    def response(self, summary: str, limit: int | None) -> tuple[list[int], bool]:
        """Return the tokens to learn, and whether the summary was cut.

        EOS follows only a whole summary: after a cut one it would teach to stop in mid-sentence.

        Args:
            limit: longest summary in tokens (`end` and EOS apart); half of the model's positions
                limit it too.
        """
        ids = self.encode(summary)
        tail = (self.encode(self.end) if self.end else []) + [self.eos]
        limits = [] if limit is None else [limit]
        if self.positions is not None:
            limits.append(max(self.positions // 2 - len(tail), 1))
        if limits and len(ids) > min(limits):
            return ids[: self._whole(ids, min(limits))], True
        return ids + tail, False


def stop_ids(loaded: Any) -> list[int]:
    """Return the tokens that end a checkpoint's texts: the tokenizer's EOS and the model's."""
    config = getattr(loaded.model, "generation_config", None)
    own = getattr(config, "eos_token_id", None)
    listed = own if isinstance(own, list) else [own]
    return sorted({loaded.tokenizer.eos_token_id, *listed} - {None})


def pad_of(loaded: Any) -> int:
    """Return the token that fills a checkpoint's batches (see `pad_token_id`)."""
    vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
    return pad_token_id(loaded.tokenizer, vocabulary, stop_ids(loaded))


def pad_token_id(tokenizer: Any, vocabulary: int, stops: Sequence[int]) -> int:
    """Return a token to fill batches with that can never be the one that ends a summary.

    In this order: the tokenizer's pad token, unless it is a stop token; the lowest special token
    without a role (bos, eos, unk, …) that the chat template does not use; the unknown token;
    token 0 or the first after it that is no stop token. Embeddings are never resized, so only
    tokens below `vocabulary` count. Pads are left out by the attention mask and by labels placed
    by length, never by their id: whichever is chosen, EOS is learned.

    Args:
        vocabulary: rows of the model's embedding.
        stops: tokens that end a generation.
    """
    barred = set(stops) | {tokenizer.eos_token_id, tokenizer.bos_token_id}
    own = tokenizer.pad_token_id
    if own is not None and own < vocabulary and own not in {*stops, tokenizer.eos_token_id}:
        return own
    named = {getattr(tokenizer, f"{role}_token_id", None) for role in ("unk", "sep", "cls", "mask")}
    template = getattr(tokenizer, "chat_template", None)
    template = template if isinstance(template, str) else ""
    for number, token in sorted(tokenizer.added_tokens_decoder.items()):
        free = number not in barred | named and str(token.content) not in template
        if token.special and free and number < vocabulary:
            return number
    unknown = tokenizer.unk_token_id
    if unknown is not None and unknown not in barred and unknown < vocabulary:
        return unknown
    return next(number for number in range(vocabulary) if number not in barred)
