"""Paired inference over items: a test, its correction for several, an interval, what n could see.

An item (a document, or a window of a text) has one difference d between two cells and a weight w;
the effect is θ = Σ d / Σ w. For scores of texts w is 1; for a perplexity d is a difference of
losses in nats and w the units (tokens or words), so θ is the logarithm of a ratio.

- `sign_flip_p`: paired randomization test (Fisher 1935; for language systems Yeh 2000, Dror et al.
  2018): if both cells were alike, the sign of each d would be a coin's. All 2^n signs are tried for
  up to EXACT items, else DRAWS drawn ones, with the correction of Phipson and Smyth (2010).
- `holm`: Holm (1979).
- `interval`: percentile bootstrap over items with the quantiles of Hesterberg (2015), "expanded
  percentile": wider by what a percentile interval is too narrow for small n.
  `scipy.stats.bootstrap` draws the same items, but would change the last digit of published bounds.
- `detectable`: smallest effect found with a power of 80% at two-sided 5% (Bloom 1995), from the
  paired standard deviation and n.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy
from numpy import ndarray
from scipy.special import stdtrit

from prunegrid.common.determinism import derived_seed

LEVEL = 0.05
# Half the width of a 95% interval in standard errors, as if normal.
Z = NormalDist().inv_cdf(1 - LEVEL / 2)
POWER = 0.8
EXACT = 14
DRAWS = 9999
# Numbers drawn at once, at most: memory stays small for thousands of documents.
_CHUNK = 2_000_000


def effect(d: ndarray, w: ndarray) -> float:
    """Return θ = Σ d / Σ w, for d and w [n]."""
    return float(d.sum() / w.sum())


def deviation(d: ndarray, w: ndarray) -> float | None:
    """Return the paired standard deviation, so that θ's standard error is it / √n.

    With equal weights it is the standard deviation of d / w; else that of the residuals d − θw over
    the mean weight, as for any ratio of sums. None for one item.
    """
    if len(d) < 2:
        return None
    rest = d - effect(d, w) * w
    return float(math.sqrt((rest**2).sum() / (len(d) - 1)) / w.mean())


def sign_flip_p(d: ndarray, seed: int, one_sided: bool = False) -> float:
    """Return the p-value of "the sign of each d is random", two-sided or for Σ d > 0.

    Args:
        d: [n]; zeros say nothing and are left out.
        seed: of the drawn signs; the same for the same n, so swapped sides give the same value.
    """
    d = d[d != 0]
    if not len(d):
        return 1.0
    observed = float(d.sum())
    # Equal sums must count as equal, whatever the order of addition.
    slack = 1e-12 * float(numpy.abs(d).sum())
    hits = total = 0
    for signs in _signs(len(d), seed):
        sums = signs @ d
        reached = sums >= observed - slack
        if not one_sided:
            reached = numpy.abs(sums) >= abs(observed) - slack
        hits, total = hits + int(reached.sum()), total + len(sums)
    if len(d) <= EXACT:
        return hits / total
    return (hits + 1) / (total + 1)


def _signs(n: int, seed: int) -> Iterator[ndarray]:
    """Yield blocks of signs ±1, [rows, n]: all of them, or DRAWS drawn ones."""
    if n <= EXACT:
        bits = (numpy.arange(2**n)[:, None] >> numpy.arange(n)) & 1
        yield bits * 2.0 - 1
        return
    generator = numpy.random.default_rng(derived_seed(seed, "sign flips"))
    size = max(1, _CHUNK // n)
    for start in range(0, DRAWS, size):
        rows = min(size, DRAWS - start)
        yield generator.integers(0, 2, size=(rows, n), dtype=numpy.int8) * 2.0 - 1


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return the adjusted p-values of a family; None (not tested) counts as one of its size."""
    order = sorted((i for i, p in enumerate(values) if p is not None), key=lambda i: values[i])
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted


def interval(d: ndarray, w: ndarray, seed: int) -> tuple[float, float] | None:
    """Return the 95% bootstrap interval of θ; None for one item."""
    n = len(d)
    if n < 2:
        return None
    generator = numpy.random.default_rng(derived_seed(seed, "contrast bootstrap"))
    size = max(1, _CHUNK // n)
    draws = []
    for start in range(0, DRAWS, size):
        picks = generator.integers(0, n, size=(min(size, DRAWS - start), n))
        draws.append(d[picks].sum(axis=1) / w[picks].sum(axis=1))
    share = NormalDist().cdf(-math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, 1 - LEVEL / 2)))
    low, high = numpy.quantile(numpy.concatenate(draws), [share, 1 - share])
    return float(low), float(high)


def least_p(n: int) -> float:
    """Return the least p-value that sign flips of n items can have."""
    return 2.0 ** (1 - n) if n <= EXACT else 1 / (DRAWS + 1)


def detectable(sd: float | None, n: int) -> float | None:
    """Return the smallest |θ| that n items find with power 80% at two-sided 5%.

    None where there is none: so few items that sign flips cannot reach 5% (five or fewer), or all
    differences alike.
    """
    if not sd or least_p(n) > LEVEL:
        return None
    quantiles = float(stdtrit(n - 1, 1 - LEVEL / 2)) + float(stdtrit(n - 1, POWER))
    return quantiles * sd / math.sqrt(n)
