"""A tokenizer that knows more tokens than its model has embeddings, kept to those that it has.

Tokens are often added to a tokenizer without resizing the model. A text without them is fine; one
that holds such a token would end the forward pass in an index error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prunegrid.common.errors import PrunegridError

REMEDY = (
    "resize the model to its tokenizer (`model.resize_token_embeddings(len(tokenizer))`) and save "
    "both, or leave out texts and chat templates with this token"
)


def beyond(tokenizer: Any, rows: int) -> dict[int, str]:
    """Return {id: token} of the tokens whose ids are not below `rows`, the lowest first."""
    top = max([tokenizer.vocab_size - 1, *tokenizer.added_tokens_decoder])
    if top < rows:
        return {}
    return {i: token for token, i in sorted(tokenizer.get_vocab().items(), key=_id) if i >= rows}


def _id(item: tuple[str, int]) -> int:
    return item[1]


def bounded(tokenizer: Any, rows: int | None, where: str) -> Any:
    """Return the tokenizer; one with tokens beyond the embedding refuses texts that hold them.

    Args:
        tokenizer: of transformers.
        rows: of the model's embedding; None for a model without such a table.
        where: label of the refusal.
    """
    tokens = {} if rows is None else beyond(tokenizer, rows)
    if not tokens:
        return tokenizer
    kind = type(tokenizer)

    class Bounded(kind):
        """The same tokenizer, whose ids are looked at."""

        def __call__(self, *args: Any, **named: Any) -> Any:
            encoded = super().__call__(*args, **named)
            _require_below(encoded["input_ids"], rows, tokens, where)
            return encoded

        def encode(self, *args: Any, **named: Any) -> Any:
            encoded = super().encode(*args, **named)
            _require_below(encoded, rows, tokens, where)
            return encoded

    # Saved, it is a tokenizer as any other: transformers writes the name of its class.
    Bounded.__name__, Bounded.__qualname__ = kind.__name__, kind.__qualname__
    tokenizer.__class__ = Bounded
    return tokenizer


def _require_below(ids: Any, rows: int, tokens: dict[int, str], where: str) -> None:
    first = next((i for i in _flat(ids) if i >= rows), None)
    if first is not None:
        raise PrunegridError(
            f"a text holds the token {tokens.get(first, '')!r} ({first}), and the model has "
            f"{rows} embeddings",
            where=where,
            expected=f"tokens below {rows}",
            remedy=REMEDY,
        )


def _flat(ids: Any) -> Iterator[int]:
    for item in ids.tolist() if hasattr(ids, "tolist") else ids:
        if isinstance(item, int):
            yield item
        else:
            yield from _flat(item)
