"""Labels of faults: planted texts, the order of the labels, what a rule must leave alone."""

from __future__ import annotations

import random

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.metrics.labels import COLUMNS, SETTINGS, first_fault
from prunegrid.evaluation.scoring import score
from tests.helpers import synthetic

DRAW = random.Random(5)
DOCUMENT = (
    "SECTION 1. SHORT TITLE.\nThis Act may be cited as the Rural Bridges Act.\n"
    "SEC. 2. INSPECTION.\n" + " ".join(synthetic.sentence(DRAW) for _ in range(12))
    + " The Secretary of Transportation, Pete Miller, shall inspect all rural bridges in Ohio."
)  # fmt: skip
GOOD = "Rural bridges must be looked at by the Secretary of Transportation in Ohio."


def label(text: str, hit: bool = False, **limits) -> str:
    return first_fault(text, DOCUMENT, hit, SETTINGS | limits)


PLANTED = [
    ("", "blank"),
    (" \n ###", "blank"),
    ("### Submit", "blank"),
    ("Bridge", "blank"),
    ("the bridge is the bridge is the bridge is the bridge is", "loop"),
    ("S.S.S.S.S.S.S.S.S.S", "loop"),
    (GOOD + " " + GOOD, "loop"),
    ("SECTION 1. SHORT TITLE.", "header"),
    ("Rural Bridges and Roads of Ohio Act", "header"),
    ("This Act may be cited as the Scott Carey Act.", "header"),
    (" ".join(DOCUMENT.split()[5:60]), "copied_start"),
    (" ".join(DOCUMENT.split()[60:110]), "copied"),
    ("Whales sing beneath frozen oceans while penguins gather silently nearby.", "irrelevant"),
    ("All rural bridges are inspected by John Carey and by Anna Bell.", "wrong_entity"),
    (GOOD[:-1] + " and then", "none"),
    (GOOD, "none"),
]


@pytest.mark.parametrize(("text", "wanted"), PLANTED)
def test_planted_faults_get_their_label(text, wanted):
    assert label(text) == wanted


def test_a_text_at_the_limit_is_cut_off_only_where_it_does_not_end():
    assert label(GOOD, hit=True) == "none"
    assert label(GOOD[:-1] + ' there."', hit=True) == "none"
    assert label(GOOD[:-1] + " and then", hit=True) == "cut_off"


def test_the_first_fault_in_the_order_wins():
    start = " ".join(DOCUMENT.split()[5:40])
    assert label(start, hit=True) == "copied_start"
    assert label(f"{start} {start} {start}", hit=True) == "loop"
    assert label("Carey Bell", hit=True) == "blank"
    assert label("Whales by John Carey sing to Anna Bell beneath oceans and", True) == "irrelevant"


def test_the_thresholds_are_settings():
    text = "Whales sing about rural bridges."  # bridges and rural, not whales and sing
    assert label(text) == "none"
    assert label(text, overlap=0.9) == "irrelevant"
    assert label(GOOD, blank_words=40) == "blank"
    row = {"id": ["a"], "reference": ["r"], "prediction": [GOOD], "document": [DOCUMENT]}
    frame = pd.DataFrame(row | {"hit_limit": [False]})
    found = score(frame, {"labels": {"blank_words": 40}}).examples
    assert found["label_blank"].tolist() == [1.0]
    with pytest.raises(PrunegridError, match="overlap is -1"):
        score(frame, {"labels": {"overlap": -1}})


def test_each_example_has_one_label():
    texts = [text for text, _ in PLANTED]
    frame = pd.DataFrame({"id": [str(i) for i in range(len(texts))], "prediction": texts})
    frame = frame.assign(reference="r", document=DOCUMENT, hit_limit=False)
    found = score(frame, {"labels": {}})
    assert (found.examples[sorted(COLUMNS)].sum(axis=1) == 1).all()
    for row, (_, wanted) in enumerate(PLANTED):
        assert found.examples[f"label_{wanted}"][row] == 1
    assert sum(found.summary[column]["mean"] for column in COLUMNS) == pytest.approx(1)


@given(st.text(max_size=80), st.text(max_size=80), st.booleans())
def test_any_text_gets_a_label(text, document, hit):
    assert f"label_{first_fault(text, document, hit, SETTINGS)}" in COLUMNS


@given(st.integers(0, 200))
def test_a_copied_piece_is_never_free_of_faults(start):
    piece = " ".join(DOCUMENT.split()[start : start + 30])
    assert label(piece) in ("blank", "header", "copied_start", "copied", "loop")
