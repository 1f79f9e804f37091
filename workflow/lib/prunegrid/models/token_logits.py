"""Logits of a causal model, a block of positions at a time.

Logits of a whole window are often its largest tensor: 2048 positions of a vocabulary of 150,000 are
1.2 GB in float32. Here the model runs once for the states that its head reads; the head then runs
over a few of them at a time. What a model does with its logits after the head (it scales them, or
caps them as Gemma 2 does) is left to the model's own code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models.forward import inner

PROBED = 2  # positions of the probe: a model that works on single ones alone would be noticed


class TokenLogits:
    """Gives the states of a window and the logits of some of them.

    Args:
        model: a causal language model in eval mode, on its device.
        where: label for errors.
    """

    def __init__(self, model: nn.Module, where: str) -> None:
        self.model, self.where = model, where
        self.head = inner(model).get_output_embeddings()
        self.vocabulary: int = self.head.weight.shape[0]
        self.device = next(model.parameters()).device
        self.is_plain: bool | None = None  # whether the logits are what the head gives

    def states(self, tokens: Tensor) -> Tensor:
        """Return what the head reads at each position, [tokens, width].

        Args:
            tokens: int64 [tokens], all that the model sees.

        Raises:
            PrunegridError: the model does not call its output embedding.
        """
        seen: list[Tensor] = []
        usual = self.head.forward

        def last_only(states: Tensor) -> Tensor:
            seen.append(states)
            return usual(states[:, -1:])

        with self._head_is(last_only):
            self.model(tokens[None].to(self.device), use_cache=False)
        if len(seen) != 1 or seen[0].dim() != 3:
            raise PrunegridError(
                f"{type(inner(self.model)).__name__} does not compute its logits by its output "
                "embedding",
                where=self.where,
                remedy="use another model, or leave this evaluation out",
            )
        return seen[0][0]

    def logits(self, states: Tensor) -> Tensor:
        """Return the logits [positions, vocabulary] of states [positions, width]."""
        made = self.head(states[None])
        if self.is_plain is None:
            self.is_plain = self._is_plain(made.shape[-1], made.dtype)
        return (made if self.is_plain else self._finished(made))[0]

    def _finished(self, made: Tensor) -> Tensor:
        """Return what the model makes of the head's output, [1, positions, vocabulary]."""
        some = torch.zeros((1, 1), dtype=torch.int64, device=self.device)
        with self._head_is(lambda states: made):
            return self.model(some, use_cache=False).logits

    def _is_plain(self, vocabulary: int, dtype: torch.dtype) -> bool:
        steps = torch.linspace(-40, 40, PROBED * vocabulary, device=self.device)
        probe = steps.reshape(1, PROBED, vocabulary).to(dtype)
        return bool(torch.equal(self._finished(probe.clone()).float(), probe.float()))

    @contextlib.contextmanager
    def _head_is(self, forward: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Let the head do something else, inside."""
        usual = self.head.__dict__.get("forward")
        self.head.forward = forward
        try:
            yield
        finally:
            if usual is None:
                del self.head.forward
            else:
                self.head.forward = usual
