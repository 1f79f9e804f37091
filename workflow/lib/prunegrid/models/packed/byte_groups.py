"""Which N of every M places are kept, as ranks among all choices, packed plane by plane.

Of the C(M, N) choices each gets its rank among the M-bit words with N ones in increasing order (the
first place is the lowest bit): 3 bits for 2:4 and 7 for 4:8, where an index for each value, as
kernels want it, takes 4 and 12. First come the lowest bits of all ranks, then the next.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.models.packed.bits import byte_count, misfit, unpacked

# Ranks come from a table of all words of M bits; larger groups take a mask.
LARGEST_GROUP = 16


def encoded(kept: np.ndarray, keep: int, group: int) -> tuple[Tensor, np.ndarray]:
    """Return the planes of ranks, uint8 [bits, ⌈groups/8⌉], and the places kept, bool [n].

    Args:
        kept: bool [n], at most `keep` of every `group`; groups with fewer keep their first others.

    Raises:
        ValueError: a group keeps more.
    """
    words = _filled(_words(kept, group), keep, group)
    return _planes(_ranks(keep, group)[words], code_bits(keep, group)), _places(words, group)


def kept_places(keep: int, group: int, size: int, codes: Tensor) -> np.ndarray:
    """Return the kept places, bool [size], of the ranks of groups.

    Raises:
        PrunegridError: the codes are not of this size, or no ranks of N of M.
    """
    groups, width = size // group, code_bits(keep, group)
    if codes.dtype != torch.uint8 or list(codes.shape) != [width, byte_count(groups)]:
        raise misfit("codes", codes, f"uint8 [{width}, {byte_count(groups)}]")
    ranks = np.zeros(groups, np.uint16)
    for plane, bits in enumerate(codes):
        ranks |= unpacked("codes", bits, groups).astype(np.uint16) << np.uint16(plane)
    words = choices(keep, group)
    if groups and int(ranks.max()) >= len(words):
        raise PrunegridError(
            f"a group's choice has the index {int(ranks.max())}",
            expected=f"less than {len(words)}, as {keep}:{group} has",
        )
    return _places(words[ranks], group)


@functools.cache
def choices(keep: int, group: int) -> np.ndarray:
    """Return all words of `group` bits with `keep` ones, increasing, uint16 [C(group, keep)]."""
    words = np.arange(1 << group, dtype=np.uint32)
    return words[np.bitwise_count(words) == keep].astype(np.uint16)


def code_bits(keep: int, group: int) -> int:
    """Return the bits of one group's rank, ⌈log2 C(group, keep)⌉."""
    return (math.comb(group, keep) - 1).bit_length()


@functools.cache
def _ranks(keep: int, group: int) -> np.ndarray:
    """Return the rank of every word, uint16 [2^group]; 0 where it has not `keep` ones."""
    ranks = np.zeros(1 << group, np.uint16)
    words = choices(keep, group)
    ranks[words] = np.arange(len(words), dtype=np.uint16)
    return ranks


def _words(kept: np.ndarray, group: int) -> np.ndarray:
    """Return each group's places as a word, uint16 [groups], the first column lowest."""
    columns = kept.reshape(-1, group)
    words = np.zeros(len(columns), np.uint16)
    for column in range(group):
        words |= columns[:, column].astype(np.uint16) << np.uint16(column)
    return words


def _places(words: np.ndarray, group: int) -> np.ndarray:
    """Return what `_words` was given, bool [groups · group]."""
    kept = np.empty((len(words), group), bool)
    for column in range(group):
        kept[:, column] = (words >> np.uint16(column)) & np.uint16(1)
    return kept.reshape(-1)


def _filled(words: np.ndarray, keep: int, group: int) -> np.ndarray:
    """Return the words with `keep` ones each: the first zeros of a group that has fewer are kept.

    Raises:
        ValueError: a group has more.
    """
    counts = np.bitwise_count(words)
    if (counts > keep).any():
        raise ValueError(f"a group keeps more than {keep} of {group}")
    short = np.flatnonzero(counts < keep)
    kept = _places(words[short], group).reshape(-1, group)
    missing = (keep - counts[short].astype(np.int64))[:, None]
    kept |= ~kept & (np.cumsum(~kept, axis=1) <= missing)
    words = words.copy()
    words[short] = _words(kept, group)
    return words


def _planes(ranks: np.ndarray, width: int) -> Tensor:
    """Return ranks as uint8 [bits, ⌈groups/8⌉]."""
    planes = [
        np.packbits(((ranks >> np.uint16(bit)) & np.uint16(1)).astype(bool)) for bit in range(width)
    ]
    return torch.from_numpy(np.stack(planes))
