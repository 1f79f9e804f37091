r"""How far a model's next tokens are from the dense model's, window by window.

For each scored token, with p the dense model's distribution of it and q the other model's (Kullback
and Leibler 1951, in nats):

    KL(p ‖ q) = Σ_v p_v (log p_v - log q_v) = Σ_v [p_v (log p_v - log q_v) - p_v + q_v]

The second form is what is computed. Each of its terms is 0 or more, so rounding cannot make a sum
negative, and an error δ of log-probabilities that are nearly equal counts as δ²/2, not as δ.
Log-probabilities are float32, their sums float64. The two models agree where the likeliest token of
both is the same, the first of equals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.perplexity import Window
from prunegrid.models.token_logits import TokenLogits

# Logits of both models are held for so many numbers of each at once: 16 MB in float32.
BLOCK = 2**22


class Distance(NamedTuple):
    """The sums over the scored tokens of a window.

    Attributes:
        agree: how many tokens of which both models' likeliest is the same.
        kl: of KL(dense ‖ model), nats.
        loss, dense_loss: of -log of the text's own token, nats.
    """

    agree: int
    kl: float
    loss: float
    dense_loss: float


def require_same_vocabulary(model: nn.Module, dense: nn.Module, where: str) -> None:
    """Check that two models choose among equally many tokens.

    Raises:
        PrunegridError: they do not.
    """
    sizes = [TokenLogits(one, where).vocabulary for one in (model, dense)]
    if sizes[0] != sizes[1]:
        raise PrunegridError(
            f"the model has {sizes[0]} tokens, the dense model {sizes[1]}",
            where=where,
            expected="one vocabulary: distributions of other tokens have no distance",
            remedy="compare it with the dense model that it was made of",
        )


@torch.no_grad()
def window_distances(
    model: nn.Module,
    dense: nn.Module,
    tokens: Sequence[int],
    plan: Sequence[Window],
    where: str,
    block: int = BLOCK,
) -> list[Distance]:
    """Return the distance of each window.

    Args:
        model, dense: causal language models in eval mode, on their device; they may be one.
        tokens: of the whole text.
        plan: as of `perplexity.window_losses`; the same tokens are scored.
        block: numbers of logits that are held at once, of each model; a token at least.

    Raises:
        PrunegridError: a loss or a divergence is NaN or infinite.
    """
    own = TokenLogits(model, where)
    its = own if dense is model else TokenLogits(dense, where)
    ids = torch.tensor(tokens, dtype=torch.int64, device=own.device)
    found = []
    for index, window in enumerate(tqdm(plan, desc="distances", disable=None)):
        part = ids[window.start : window.end]
        states = own.states(part[:-1])[-window.scored :]
        dense_states = states if its is own else its.states(part[:-1])[-window.scored :]
        sums = [0.0, 0.0, 0.0, 0.0]
        for some in _blocks(window.scored, block // own.vocabulary):
            logits = own.logits(states[some])
            dense_logits = logits if its is own else its.logits(dense_states[some])
            more = token_distances(logits, dense_logits, part[-window.scored :][some])
            sums = [total + float(values.sum()) for total, values in zip(sums, more, strict=True)]
        found.append(_checked(Distance(int(sums[0]), *sums[1:]), index, where))
    return found


def token_distances(
    logits: Tensor, dense_logits: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return (agreement, KL, loss, dense loss) of each token, float64 [tokens].

    Args:
        logits, dense_logits: [tokens, vocabulary], of any float dtype.
        targets: the text's own tokens, int64 [tokens].
    """
    logits, dense_logits = logits.float(), dense_logits.float()
    agree = (logits.argmax(-1) == dense_logits.argmax(-1)).double()
    own, its = logits.log_softmax(-1), dense_logits.log_softmax(-1)
    losses = [-each.gather(-1, targets[:, None])[:, 0].double() for each in (own, its)]
    own, its = own.double(), its.double()
    shares = its.exp()
    # A token that the dense model rules out adds the other's share of it, and no 0 · ∞.
    terms = torch.where(shares > 0, shares * (its - own - 1), 0.0) + own.exp()
    return agree, terms.sum(-1), *losses


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` places, one at least, that cover `count`."""
    size = max(size, 1)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _checked(distance: Distance, index: int, where: str) -> Distance:
    """Return a distance whose numbers are all finite."""
    for value, what, reason in (
        (distance.dense_loss, "loss", "the dense model gives NaN or infinite logits"),
        (distance.loss, "loss", "the model gives NaN or infinite logits"),
        (distance.kl, "distances", "the model gives no share to a token that the dense one does"),
    ):
        if not math.isfinite(value):
            raise PrunegridError(
                f"the {what} of window {index} is {value}",
                where=where,
                remedy=f"{reason}: check its weights and dtype",
            )
    return distance
