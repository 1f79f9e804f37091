"""Patterns: exact counts, the tie rule, and what is refused."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.pruning.patterns import (
    NM,
    Unstructured,
    keep_mask,
    lowest,
    parse_pattern,
    prune_lowest,
    zeros_asked,
    zeros_expected,
)

few_values = st.integers(0, 4).map(float)


def matrices(max_rows: int = 6, max_columns: int = 24):
    """Small score matrices with many ties."""
    return st.integers(1, max_rows).flatmap(
        lambda rows: st.integers(1, max_columns).flatmap(
            lambda columns: st.lists(
                st.lists(few_values, min_size=columns, max_size=columns),
                min_size=rows,
                max_size=rows,
            ).map(torch.tensor)
        )
    )


def by_sorting(scores: list[float], count: int) -> list[bool]:
    """The rule spelled out: the lowest score first, of equal ones the lowest index."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i], i))
    return [i in order[:count] for i in range(len(scores))]


@given(matrices(), st.data())
@settings(max_examples=60)
def test_lowest_is_a_stable_sort_by_row(scores, data):
    count = data.draw(st.integers(0, scores.shape[1]))
    expected = [by_sorting(row, count) for row in scores.tolist()]
    assert lowest(scores, count).tolist() == expected


@given(matrices(), st.integers(0, 100).map(lambda n: n / 100), st.sampled_from(["row", "layer"]))
@settings(max_examples=60)
def test_unstructured_counts_are_exact(scores, sparsity, scope):
    gone = ~keep_mask(scores, Unstructured(sparsity, scope))
    rows, columns = scores.shape
    if scope == "row":
        exact = Fraction(str(sparsity)) * columns
        ends = [math.floor(exact * row) for row in range(rows + 1)]
        counts = [after - before for before, after in itertools.pairwise(ends)]
        assert gone.sum(1).tolist() == counts
        assert max(counts) - min(counts) <= 1
        expected = [by_sorting(row, c) for row, c in zip(scores.tolist(), counts, strict=True)]
        assert gone.tolist() == expected
    else:
        flat = scores.flatten().tolist()
        count = math.floor(Fraction(str(sparsity)) * len(flat))
        assert gone.flatten().tolist() == by_sorting(flat, count)
    assert int(gone.sum()) == zeros_asked(Unstructured(sparsity, scope), rows, columns)


@given(
    st.sampled_from([(1, 2), (2, 4), (1, 4), (4, 8), (3, 5), (8, 20)]),
    st.integers(1, 4),
    st.data(),
)
@settings(max_examples=40)
def test_nm_prunes_the_lowest_of_every_group(nm, rows, data):
    keep, group = nm
    values = data.draw(st.lists(few_values, min_size=rows * group * 2, max_size=rows * group * 2))
    scores = torch.tensor(values).reshape(rows, group * 2)
    gone = ~keep_mask(scores, NM(keep, group))
    expected = [by_sorting(g, group - keep) for g in scores.reshape(-1, group).tolist()]
    assert gone.reshape(-1, group).tolist() == expected


def test_decimal_sparsity_is_not_lost_to_binary_rounding():
    assert int(0.29 * 100) == 28  # what a plain floor would give
    assert Unstructured(0.29).zeros_of(100) == 29
    assert [Unstructured(0.5).zeros_of(n) for n in (1, 2, 3)] == [0, 1, 1]


@pytest.mark.parametrize("scope", ["row", "layer"])
def test_sparsity_zero_and_one(scope):
    weight = torch.randn(3, 8)
    assert torch.equal(prune_lowest(weight, weight.abs(), Unstructured(0, scope)), weight)
    assert not prune_lowest(weight, weight.abs(), Unstructured(1, scope)).any()


def test_ties_go_in_flat_order():
    scores = torch.ones(2, 4)
    assert keep_mask(scores, Unstructured(0.375, "layer")).tolist() == [
        [False, False, False, True],
        [True] * 4,
    ]
    assert keep_mask(scores, NM(2, 4)).tolist() == [[False, False, True, True]] * 2


@pytest.mark.parametrize("pattern", [Unstructured(0.5, "row"), Unstructured(0.5), NM(2, 4)])
def test_zeros_that_are_there_go_first_even_where_scores_tie(pattern):
    weight = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 3.0, 0.0, 4.0]])
    pruned = prune_lowest(weight, torch.zeros(2, 4), pattern)
    assert torch.equal(pruned, weight)
    assert zeros_expected(pattern, weight) == 4


def test_more_zeros_than_asked_are_expected_to_stay():
    weight = torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0]])
    assert zeros_expected(Unstructured(0.5, "row"), weight) == 5
    assert zeros_expected(Unstructured(0.5, "layer"), weight) == 4
    assert zeros_expected(NM(2, 4), weight) == 5
    for pattern in (Unstructured(0.5, "row"), Unstructured(0.5), NM(2, 4)):
        pruned = prune_lowest(weight, weight.abs(), pattern)
        assert int((pruned == 0).sum()) == zeros_expected(pattern, weight)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2:4", (2, 4)),
        ("16:32", (16, 32)),
        ("unstructured", None),
        (None, None),
        ("2:", None),
        ("2:4:8", None),
        ("²:4", None),
    ],
)
def test_n_of_m_as_it_is_written(text, found):
    assert parse_nm(text) == found


def test_parse():
    assert parse_pattern("2:4") == NM(2, 4)
    assert parse_pattern("2:4", 0.5) == NM(2, 4)
    assert parse_pattern("unstructured", 0.3, "row") == Unstructured(0.3, "row")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("3:2",), "0 < N < M"),
        (("4:4",), "0 < N < M"),
        (("0:4",), "0 < N < M"),
        (("2of4",), "as in '2:4'"),
        (("unstructured",), "no sparsity"),
        (("unstructured", 1.5), "sparsity is 1.5"),
        (("unstructured", -0.1), "sparsity is -0.1"),
        (("unstructured", float("nan")), "sparsity is nan"),
        (("unstructured", 0.5, "model"), "scope is 'model'"),
        (("2:4", 0.7), "0.5, which the pattern sets itself"),
    ],
)
def test_refused(arguments, said):
    with pytest.raises(PrunegridError, match=said):
        parse_pattern(*arguments)


def test_width_that_m_does_not_divide():
    with pytest.raises(PrunegridError, match="10 input columns, which 4 does not divide"):
        keep_mask(torch.ones(2, 10), NM(2, 4))
