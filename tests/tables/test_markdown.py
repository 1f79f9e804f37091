"""Texts of tables in Markdown: no `nan`, and whole numbers as such."""

import pandas
import pytest

from prunegrid.tables.markdown import table


def cells(frame):
    """Return the texts of the first row."""
    *_, row = table(frame).splitlines()
    return [text.strip() for text in row.strip("|").split("|")]


@pytest.mark.parametrize("nothing", [None, float("nan"), pandas.NA, pandas.NaT])
def test_what_is_missing_is_empty(nothing):
    assert cells(pandas.DataFrame([{"a": "x", "b": nothing, "c": 1}])) == ["x", "", "1"]


@pytest.mark.parametrize(
    "column", [[None, 0], [float("nan"), 0.0], pandas.array([None, 0], dtype="Int64")]
)
def test_a_whole_number_beside_a_missing_one_stays_whole(column):
    assert cells(pandas.DataFrame({"seed": column, "x": ["a", "b"]})) == ["0", "b"]


def test_lines_of_unlike_keys_leave_gaps_empty():
    frame = pandas.DataFrame([{"a": 1, "b": "0.50"}, {"a": 2, "c": "x"}])
    assert cells(frame) == ["2", "", "x"]


def test_shares_and_texts_stay_as_they_are():
    row = {"a": 0.25, "b": "0.0", "c": True, "d": "nan", "e": float("inf")}
    assert cells(pandas.DataFrame([row])) == ["0.25", "0.0", "True", "nan", "inf"]
