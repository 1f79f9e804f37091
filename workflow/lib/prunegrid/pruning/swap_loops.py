"""The compiled loops of `refine/swaps.py`: rows of a linear, each swapped until none helps.

numba compiles them at their first call, seconds, and keeps the code where it may write: beside this
file, else in the user's folder of caches. Loops are written so that LLVM vectorises them without a
licence to change values: no sum is reordered, no product fused, and minima are taken of integers in
the order of the numbers. So a mask depends on what is given alone, not on threads or the CPU.

Rows: weight float32, kept bool, products float32 (c = g G), each [rows, d_in]; gram float32
[d_in, d_in], diagonal [d_in]; least float32 [rows] is what a swap's Δ must be below, counts int64
[rows] starts at 0 and ends as the swaps made. `kept` is changed in place. All are C-contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

INF = np.float32(np.inf)
# The bits of infinity, as of float32: what `_ordered` makes of it.
LAST = np.int32(0x7F800000)
# Columns whose least value is found at once.
BLOCK = 16


def _compiled(function: Callable) -> Any:
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(function, cache=True, **options)
    except RuntimeError:  # no folder may be written: each process compiles for itself
        return njit(function, **options)


@_compiled
def by_groups(weight, kept, products, gram, diagonal, cross, first, second, least, most, counts):
    """Swap inside groups of M columns, which lie as all first members, all second ones, …

    Args:
        cross: −2 G_ij of each pair in each group, float32 [pairs, groups].
        first, second: the members i < j of each pair, int64 [pairs].
        most: swaps of a row.
    """
    (pairs, groups), width = cross.shape, weight.shape[1]
    change, slope = np.empty(width, np.float32), np.empty(width, np.float32)
    # −2 w_i w_j G_ij; and the same with infinity where both are kept, or both pruned.
    fixed, allowed = np.empty(cross.shape, np.float32), np.empty(cross.shape, np.float32)
    deltas = np.empty(cross.shape, np.float32)
    bits = deltas.view(np.uint32)
    for row in range(len(weight)):
        own, sides = weight[row], kept[row]
        _start(own, sides, products[row], diagonal, change, slope)
        for pair in range(pairs):
            i, j = first[pair] * groups, second[pair] * groups
            for group in range(groups):
                a, b = own[i + group], own[j + group]
                fixed[pair, group] = cross[pair, group] * a * b if a != 0 and b != 0 else INF
                is_apart = sides[i + group] != sides[j + group]
                allowed[pair, group] = fixed[pair, group] if is_apart else INF
        while counts[row] < most:
            # Of float32 below zero the least has the largest bits, and those above have less.
            largest, pair = np.uint32(0), 0
            for n in range(pairs):
                i, j = first[n] * groups, second[n] * groups
                _add(deltas[n], change[i : i + groups], change[j : j + groups], allowed[n])
                found = _largest(bits[n])
                if found > largest:
                    largest, pair = found, n
            group = 0
            while bits[pair, group] != largest:
                group += 1
            if not deltas[pair, group] < least[row]:
                break
            i, j = first[pair] * groups + group, second[pair] * groups + group
            _swap(own, sides, gram, diagonal, change, slope, i, j)
            counts[row] += 1
            for n in range(pairs):
                is_apart = sides[first[n] * groups + group] != sides[second[n] * groups + group]
                allowed[n, group] = fixed[n, group] if is_apart else INF


@_compiled
def by_rows(weight, kept, products, gram, diagonal, candidates, least, most, counts):
    """Swap any two columns among the `candidates` of each side that change the error least."""
    width = weight.shape[1]
    change, slope = np.empty(width, np.float32), np.empty(width, np.float32)
    # Of the kept, then of the pruned columns: infinity elsewhere, their changes, the best of them.
    barred, changes = np.empty((2, width), np.float32), np.empty((2, width), np.float32)
    columns = np.empty((2, candidates), np.int64)
    bits, found = changes.view(np.int32), np.empty(candidates, np.int32)
    keys = np.full(-(-width // BLOCK) * BLOCK, LAST, np.int32)
    for row in range(len(weight)):
        own, sides = weight[row], kept[row]
        _start(own, sides, products[row], diagonal, change, slope)
        for j in range(width):
            barred[0, j] = np.float32(0) if sides[j] and own[j] != 0 else INF
            barred[1, j] = np.float32(0) if not sides[j] and own[j] != 0 else INF
        columns[:] = -1
        while counts[row] < most:
            for side in range(2):
                _add(changes[side], change, barred[side], barred[side])
                _ordered(bits[side], keys)
                _best(keys, columns[side], found)
            delta, p, u = _best_pair(own, gram, changes, columns)
            if not delta < least[row]:
                break
            _swap(own, sides, gram, diagonal, change, slope, p, u)
            counts[row] += 1
            barred[0, p], barred[1, p] = INF, np.float32(0)
            barred[0, u], barred[1, u] = np.float32(0), INF
            for n in range(candidates):
                if columns[0, n] == p:
                    columns[0, n] = u
                if columns[1, n] == u:
                    columns[1, n] = p


@_compiled
def _start(weight, kept, products, diagonal, change, slope):
    """Set what the error changes by where one column alone goes to the other side.

    `slope` is 2 w_j, and −2 w_j of pruned ones; `change` = w_j² G_jj + slope · c.
    """
    for j in range(len(weight)):
        slope[j] = np.float32(2) * weight[j] if kept[j] else np.float32(-2) * weight[j]
        change[j] = weight[j] * weight[j] * diagonal[j] + slope[j] * products[j]


@_compiled
def _swap(weight, kept, gram, diagonal, change, slope, i, j):
    """Let two columns go to the other side."""
    # What that adds to g.
    lost_i = weight[i] if kept[i] else -weight[i]
    lost_j = weight[j] if kept[j] else -weight[j]
    row_i, row_j = gram[i], gram[j]
    for n in range(len(change)):
        change[n] += slope[n] * (lost_i * row_i[n] + lost_j * row_j[n])
    for n in (i, j):
        kept[n] = not kept[n]
        slope[n] = -slope[n]
        change[n] = np.float32(2) * weight[n] * weight[n] * diagonal[n] - change[n]


@_compiled
def _add(out, a, b, c):
    for n in range(len(out)):
        out[n] = a[n] + b[n] + c[n]


@_compiled
def _largest(bits):
    largest = np.uint32(0)
    for n in range(len(bits)):
        largest = max(largest, bits[n])
    return largest


@_compiled
def _ordered(bits, keys):
    """Set `keys` to integers in the order of the float32 that the bits are of."""
    for n in range(len(bits)):
        keys[n] = bits[n] ^ ((bits[n] >> np.int32(31)) & np.int32(0x7FFFFFFF))


@_compiled
def _best(keys, columns, found):
    """Set `columns` to those of the least finite keys, −1 where there are no more.

    `columns` holds those of the swap before: that many keys do not lie above the largest of theirs,
    so most others are passed over at once. Of equal keys those of lower columns are taken.
    """
    bound, last = -LAST, len(columns) - 1
    for column in columns:
        bound = max(bound, keys[column] if column >= 0 else LAST)
    columns[:] = -1
    found[:] = min(bound + np.int32(1), LAST)
    for start in range(0, len(keys), BLOCK):
        low = LAST
        for n in range(start, start + BLOCK):
            low = min(low, keys[n])
        if low >= found[last]:
            continue
        for n in range(start, start + BLOCK):
            key, at = keys[n], last
            if key < found[last]:
                while at > 0 and found[at - 1] > key:
                    found[at], columns[at] = found[at - 1], columns[at - 1]
                    at -= 1
                found[at], columns[at] = key, n


@_compiled
def _best_pair(weight, gram, changes, columns):
    """Return the least Δ, and the kept and the pruned column of it; infinity if there is none."""
    least, best_p, best_u = INF, -1, -1
    for p in columns[0]:
        if p < 0:
            break
        twice = np.float32(-2) * weight[p]
        for u in columns[1]:
            if u < 0:
                break
            delta = changes[0, p] + changes[1, u] + twice * weight[u] * gram[p, u]
            is_lower = p < best_p or (p == best_p and u < best_u)
            if delta < least or (delta == least and is_lower):
                least, best_p, best_u = delta, p, u
    return least, best_p, best_u
