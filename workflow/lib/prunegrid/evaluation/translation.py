"""Translations by an encoder-decoder: batched generation, decoded to text.

Sources are padded on the right, as encoders are trained. A multilingual tokenizer (M2M100's) is
told the source's language, and generation begins with the target's token; a model without such
tokens (T5) is told by its prompt's template. What is scored is decoded text, special tokens left
out: ids never leave this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.data.prompts import SLOT, Prompt, cut_words
from prunegrid.evaluation.generation import Decoding, Prediction, decode, generation_settings


class Sources:
    """Makes what the encoder is given out of documents.

    Args:
        tokenizer: of the model.
        settings: of the step: prompt {template, max_words}, languages [source, target] or None.
        positions: of the encoder (None: no limit).
        where: label for errors.

    Raises:
        PrunegridError: the tokenizer does not know a language, or languages at all.
    """

    def __init__(self, tokenizer: Any, settings: Mapping, positions: int | None, where: str):
        self.tokenizer, self.positions, self.where = tokenizer, positions, where
        self.template, self.max_words = (
            settings["prompt"]["template"],
            settings["prompt"]["max_words"],
        )
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
        shown = cut_words(document, self.max_words)
        text = self.template.replace(SLOT, shown)
        ids = self.tokenizer(text, verbose=False)["input_ids"]
        over = self.positions is not None and len(ids) > self.positions
        if over:
            ids = self.tokenizer(text, truncation=True, max_length=self.positions)["input_ids"]
        # A tokenizer that ends no text by itself (of bytes) is made to: encoders learn the end.
        if ids[-1] != self.tokenizer.eos_token_id:
            ids = [*ids[: None if self.positions is None else self.positions - 1]]
            ids.append(self.tokenizer.eos_token_id)
        return Prompt(ids, shown != document, over)


def translate(
    model: nn.Module,
    sources: Sources,
    rows: Sequence[Prompt],
    settings: Mapping,
    *,
    start: int,
    stops: Sequence[int],
    pad: int,
    device: str,
    seed: int | None = None,
) -> tuple[list[Prediction], dict]:
    """Return one translation a source, see `generation.decode`.

    Args:
        model: an encoder-decoder.
        rows: of `Sources.source`.
        settings: a generation profile.
        start: the decoder's first token.
        stops, pad: tokens that end a translation, and that fill batches.
    """

    def finish(kept: list[int], stopped: bool) -> Prediction:
        return Prediction(sources.decode(kept), len(kept) + stopped, not stopped)

    config = generation_settings(dict(settings), stops, pad)
    config.decoder_start_token_id, config.forced_bos_token_id = start, sources.forced
    lead = 1 + (sources.forced is not None)
    decoding = Decoding(config, stops, pad, side="right", lead=lead, finish=finish)
    size = settings["batch_size"]
    return decode(model, rows, decoding, batch_size=size, device=device, seed=seed)
