"""The arms of the grid axis `iterate`: ways from a dense model to each of some rising sparsities.

With p_k the pruning to the k-th sparsity and t a fine-tuning of a budget of b tokens:

    one-shot         p_k, and the dense model before them
    one-shot-tuned   p_k, then a tuning of k·b tokens
    iterative        p_1, t, p_2, t, …, p_k, t: each prunes what the one before tuned
    dense-tuned      a tuning of k·b tokens alone, so that what the text teaches is not credited to
                     pruning

So at each sparsity all tuned arms have spent the same tokens (to less than one optimizer step for
each tuning). The chain of k is the beginning of that of k + 1: a list that grows extends what is
there. A chain that belongs to two arms is one cell of both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prunegrid.config.cells import Chain, Step
from prunegrid.config.sparsity_schedule import Iterate


def chains_of(
    iterate: Iterate, prunings: Sequence[Sequence[Step]], tuning: Callable[[int], Step]
) -> list[tuple[str, Chain]]:
    """Return (arm, chain) of every point.

    Args:
        iterate: the axis.
        prunings: for each prune profile (or variant of one) its step at each sparsity.
        tuning: k → the fine-tuning of k budgets.
    """
    found: list[tuple[str, Chain]] = []
    for arm in iterate.arms:
        found += _ARMS[arm](prunings, tuning)
    return found


def _one_shot(prunings, _) -> list[tuple[str, Chain]]:
    return [("one-shot", ())] + [("one-shot", (step,)) for steps in prunings for step in steps]


def _one_shot_tuned(prunings, tuning) -> list[tuple[str, Chain]]:
    return [
        ("one-shot-tuned", (step, tuning(k)))
        for steps in prunings
        for k, step in enumerate(steps, start=1)
    ]


def _iterative(prunings, tuning) -> list[tuple[str, Chain]]:
    found = []
    for steps in prunings:
        chain: Chain = ()
        for step in steps:
            chain += (step, tuning(1))
            found.append(("iterative", chain))
    return found


def _dense_tuned(prunings, tuning) -> list[tuple[str, Chain]]:
    most = max((len(steps) for steps in prunings), default=0)
    return [("dense-tuned", (tuning(k),)) for k in range(1, most + 1)]


_ARMS = {
    "one-shot": _one_shot,
    "one-shot-tuned": _one_shot_tuned,
    "iterative": _iterative,
    "dense-tuned": _dense_tuned,
}
