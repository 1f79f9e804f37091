"""What a model learns from a row, by its task; the training loop is the same for all.

The loop knows rows of a prompt and a response, padded on the left, whose logits predict the next
column. `as_one_sequence` lets models of other tasks be run in this form:

- an encoder-decoder reads the prompt and an EOS in its encoder, and the response behind its start
  token in its decoder. So it learns p(response | prompt) token by token (teacher forcing);
- a masked language model is given the row with some tokens hidden, and learns those. Devlin et al.
  2019 (BERT, arXiv 1810.04805, section 3.1): 15% of the tokens, of which 80% are shown as the mask
  token, 10% as a random one and 10% as they are. Deviations: tokens are drawn anew each time a row
  is learned (RoBERTa, arXiv 1907.11692), and no next sentence is predicted;
- an encoder learns the label of a text through a head on its first token's states: the row's last
  "token" is the label's number, and what precedes it is the text.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common.determinism import derived_seed
from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning.training.token_batches import Example
from prunegrid.models.forward import start_token
from prunegrid.models.padding import sees_padding

SHARE, AS_MASK, AS_RANDOM = 0.15, 0.8, 0.1
HEAD = "label_head"


@dataclass(frozen=True)
class Masking:
    """The draw of the tokens that are hidden from a masked language model.

    Attributes:
        mask: the mask token.
        special: tokens that are never hidden.
        vocabulary: random tokens are below it.
        whole: hide tokens of prompts too.
        seed: of all draws.
    """

    mask: int
    special: frozenset[int]
    vocabulary: int
    whole: bool
    seed: int

    @classmethod
    def of(cls, tokenizer: Any, vocabulary: int, loss_on: str, seed: int, where: str) -> Masking:
        """Return the masking for a tokenizer.

        Raises:
            PrunegridError: it has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise PrunegridError(
                "the tokenizer has no mask token",
                where=where,
                expected="one, to hide tokens from a masked language model",
                remedy="use the tokenizer that the model was trained with",
            )
        special = frozenset(tokenizer.all_special_ids)
        size = min(len(tokenizer), vocabulary)
        return cls(tokenizer.mask_token_id, special, size, loss_on == "all", seed)

    def places(self, row: Example) -> list[int]:
        """Return the places of a row whose tokens may be hidden; its first token is never."""
        tokens, first = row.prompt + row.response, 0 if self.whole else len(row.prompt)
        return [i for i in range(max(first, 1), len(tokens)) if tokens[i] not in self.special]

    def require_tokens(self, rows: Sequence[Example], where: str) -> None:
        """Check that each row has a token that can be hidden.

        Raises:
            PrunegridError: one has none.
        """
        for number, row in enumerate(rows):
            if not self.places(row):
                raise PrunegridError(
                    f"the response of row {number} has no token that can be hidden",
                    where=where,
                    remedy="drop that row, or set loss_on: all",
                )

    def hide(self, rows: Sequence[Example], draw: str) -> list[Example]:
        """Return the rows with a share of their tokens hidden, at least one of each.

        Args:
            draw: names the draw: the same name hides the same tokens of the same rows.
        """
        generator = torch.Generator().manual_seed(derived_seed(self.seed, draw))
        return [replace(row, hidden=self._hidden(row, generator)) for row in rows]

    def _hidden(self, row: Example, generator: torch.Generator) -> dict[int, int]:
        tokens, places = row.prompt + row.response, self.places(row)
        count = max(1, round(SHARE * len(places)))
        picked = torch.randperm(len(places), generator=generator)[:count].tolist()
        chances = torch.rand(count, generator=generator).tolist()
        others = torch.randint(self.vocabulary, (count,), generator=generator).tolist()
        hidden = {}
        for place, chance, other in zip((places[i] for i in picked), chances, others, strict=True):
            shown = other if chance < AS_MASK + AS_RANDOM else tokens[place]
            hidden[place] = self.mask if chance < AS_MASK else shown
        return hidden


@contextlib.contextmanager
def having(model: nn.Module, head: nn.Module | None) -> Iterator[None]:
    """Let a model hold a head inside the context, so that it is trained with the model."""
    if head is not None:
        model.add_module(HEAD, head.train(model.training))
    try:
        yield
    finally:
        if head is not None:
            delattr(model, HEAD)


@contextlib.contextmanager
def as_one_sequence(
    model: nn.Module, task: str, eos: int | None, pad: int, head: nn.Module | None = None
) -> Iterator[None]:
    """Let a model of any task be run on rows that are padded on the left.

    Args:
        task: of the model; a causal one is run as it is.
        eos: the first of a row ends the prompt of an encoder-decoder.
        pad: fills batches.
        head: tells the label of a row; None where tokens are learned.
    """
    if task == "causal-lm":
        yield
        return
    own, before = model.forward, vars(model).get("forward")
    alone = sees_padding(model, pad, "right")

    def joint(
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        use_cache: bool = False,
        **_: Any,
    ) -> SimpleNamespace:
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        lengths = mask.sum(-1).tolist()
        rows = [ids[len(ids) - n :] for ids, n in zip(input_ids, lengths, strict=True)]
        size = 1 if alone else len(rows)
        lines = []
        for at in range(0, len(rows), size):
            if head is not None:
                texts = [row[:-1] for row in rows[at : at + size]]
                first = states_of(model, own, texts, pad)[:, :1]
                lines += head(first)[:, None]
            elif task == "seq2seq-lm":
                lines += _decoded(model, own, rows[at : at + size], eos, pad)
            else:
                lines += _read(own, rows[at : at + size], pad)
        # A row's logits end before its last column, which predicts nothing.
        width = input_ids.shape[1]
        shifted = [nn.functional.pad(x, (0, 0, width - 1 - len(x), 1)) for x in lines]
        return SimpleNamespace(logits=torch.stack(shifted))

    model.forward = joint
    try:
        yield
    finally:
        if before is None:
            del model.forward
        else:
            model.forward = before


def _decoded(
    model: nn.Module, own: Any, rows: list[Tensor], eos: int, pad: int
) -> Iterator[Tensor]:
    """Yield the logits of each row's response, [its tokens, vocabulary]."""
    cuts = [int((row == eos).nonzero()[0]) + 1 for row in rows]
    sources = [row[:cut] for row, cut in zip(rows, cuts, strict=True)]
    # The decoder does not need the last token: nothing follows it.
    first = torch.full((1,), start_token(model), device=rows[0].device)
    targets = [torch.cat([first, row[cut:-1]]) for row, cut in zip(rows, cuts, strict=True)]
    out = own(
        input_ids=_padded(sources, pad),
        attention_mask=_padded([torch.ones_like(source) for source in sources], 0),
        decoder_input_ids=_padded(targets, pad),
        use_cache=False,
    ).logits
    return (logits[: len(target)] for logits, target in zip(out, targets, strict=True))


def _read(own: Any, rows: list[Tensor], pad: int) -> Iterator[Tensor]:
    """Yield the logits of all tokens of each row but the first, [tokens - 1, vocabulary]."""
    out = _run(own, rows, pad).logits
    return (logits[1 : len(row)] for logits, row in zip(out, rows, strict=True))


def states_of(model: nn.Module, own: Any, rows: list[Tensor], pad: int) -> Tensor:
    """Return the last hidden states of an encoder [rows, longest, width], padded on the right.

    Args:
        own: the forward of the model itself.
    """
    base = model.base_model
    return _run(own if base is model else base, rows, pad).last_hidden_state


def _run(own: Any, rows: list[Tensor], pad: int) -> Any:
    """Return what an encoder, or its forward, gives for rows."""
    mask = {"attention_mask": _padded([torch.ones_like(row) for row in rows], 0)}
    takes_mask = "attention_mask" in inspect.signature(getattr(own, "forward", own)).parameters
    return own(input_ids=_padded(rows, pad), **(mask if takes_mask else {}))


def _padded(rows: list[Tensor], pad: int) -> Tensor:
    """Return rows as one tensor [rows, longest], padded on the right."""
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)
