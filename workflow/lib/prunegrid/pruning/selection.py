"""The lowest scores of rows and of small groups: exact counts, ties by the first."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor


def lowest_by_row(scores: Tensor, counts: Tensor) -> Tensor:
    """Return the bool mask of each row's lowest scores, `counts` int64 [rows] of them."""
    distinct = counts.unique().tolist()
    if len(distinct) == 1:
        return lowest(scores, distinct[0])
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    for count in distinct:
        rows = (counts == count).nonzero()[:, 0].to(scores.device)
        chosen[rows] = lowest(scores[rows], count)
    return chosen


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return the bool mask of the `count` lowest scores of each row, ties by lowest column.

    A partition finds the threshold, then only rows with more ties than room count them out:
    an order of magnitude cheaper than a stable sort.

    Args:
        scores: [rows, n] float32 without NaN.
    """
    if count <= 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    if count >= scores.shape[1]:
        return torch.ones_like(scores, dtype=torch.bool)
    threshold = _kth(scores, count)
    chosen = scores <= threshold
    crowded = (chosen.sum(1, dtype=torch.int32) > count).nonzero()[:, 0]
    if len(crowded):
        part, cut = scores[crowded], threshold[crowded]
        below, tied = part < cut, part == cut
        room = count - below.sum(1, keepdim=True)
        chosen[crowded] = below | (tied & (tied.cumsum(1) <= room))
    return chosen


def _kth(scores: Tensor, count: int) -> Tensor:
    """Return the `count`-th lowest score of each row, [rows, 1]."""
    if scores.device.type == "cpu":
        values = np.partition(scores.numpy(), count - 1, axis=1)[:, count - 1 : count]
        return torch.from_numpy(np.ascontiguousarray(values))
    return scores.kthvalue(count, dim=1, keepdim=True).values


def lowest_of_group(members: Tensor, count: int) -> Tensor:
    """Return the bool mask [M, n] of the `count` lowest members of each group, ties by the first.

    By comparing: for small M far cheaper than sorting.

    Args:
        members: float32 [M, n] without NaN: the first of each group, the second, …
    """
    size, groups = members.shape
    if size > 16:
        return lowest(members.t().contiguous(), count).t()
    if size == 4 and count == 2:
        gone = members <= _second_of_four(members)
        # More than two are as low only where there are ties, which go by rank below.
        if groups * 2 == (np.count_nonzero(gone.numpy()) if gone.is_cpu else int(gone.sum())):
            return gone
    ranks = torch.zeros(members.shape, dtype=torch.uint8, device=members.device)
    for first, second in itertools.combinations(range(size), 2):
        before = members[first] <= members[second]
        ranks[second] += before
        ranks[first] += ~before
    return ranks < count


def _second_of_four(members: Tensor) -> Tensor:
    """Return the second lowest of [4, n], [n]."""
    low = torch.minimum(members[:2], members[2:])
    high = torch.maximum(members[:2], members[2:])
    # The lower of one pair's higher and the other pair's, or the higher of both pairs' lower ones.
    return torch.minimum(torch.maximum(low[0], low[1]), torch.minimum(high[0], high[1]))


def members_of(scores: Tensor, group: int) -> Tensor:
    """Return the groups of M that lie one after another in the scores' rows, as [M, n]."""
    members = scores.reshape(-1, group).t()
    if members.is_cpu:
        # torch takes five times as long to transpose so narrow a matrix.
        return torch.from_numpy(np.ascontiguousarray(members.numpy()))
    return members.contiguous()


def groups_of(chosen: Tensor) -> Tensor:
    """Return the transpose [n, M] of bool [M, n], contiguous."""
    if len(chosen) != 4:
        return chosen.t().contiguous()
    # Four bytes put into one word each: twice as fast as to write every fourth byte.
    words = chosen[0].int()
    for place in (1, 2, 3):
        words |= chosen[place].int() << (8 * place)
    return words.view(torch.bool)
