"""Written answers: what counts as right, and which items can be written."""

import json

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.harness.written_answers import is_right, items_of, normal

DEFINITION = {"t": {"output_type": "multiple_choice"}}


@pytest.mark.parametrize(
    ("text", "options", "right"),
    [
        (" Paris", [" Paris"], True),
        ("\n\nparis, in France\nLondon", [" Paris"], True),
        (" Parisian", [" Paris"], False),
        (" in Paris", [" Paris"], False),
        (" 12", [" 1"], False),
        (" 1", [" 12"], False),
        (" 1.", [" 1"], True),
        ("the  red\tdoor!", [" The red door"], True),
        (" STRASSE", [" Straße"], True),
        (" no", [" yes", " no"], True),
        ("", [" yes"], False),
        ("\n \n", [" yes"], False),
        (" )] and", [")]"], True),
        (" yes.", ["yes!"], False),
    ],
)
def test_a_text_is_right_if_it_begins_with_a_right_option(text, options, right):
    assert is_right(text, options) is right


def test_what_a_text_is_read_as():
    assert normal("  \n Two  Words \nmore") == "two words"
    assert normal(" \n ") == ""


def sample(**changes):
    row = {"id": "t:0", "prompt": "Q:", "continuations": [" a", " b", " c"], "target": "1"}
    return row | changes


@pytest.mark.parametrize(
    ("target", "right"),
    [(1, (" b",)), ("b", (" b",)), (" b", (" b",)), ([0, 2], (" a", " c")), ([5, 2], (" c",))],
)
def test_the_harness_names_right_options_by_place_or_text(target, right):
    (item,) = items_of([sample(target=json.dumps(target))], DEFINITION, "here")
    assert item.right == right and item.prompt == "Q:"


def test_unconditional_options_do_not_count():
    """Mutual information asks each option once more, without a prompt."""
    row = sample(continuations=[" a", " b", " a", " b"], target='"b"')
    assert items_of([row, row], DEFINITION, "here")[0].right == (" b",)


@pytest.mark.parametrize(
    ("row", "definition", "said"),
    [
        (sample(), {"t": {"output_type": "generate_until"}}, "here: the task 't' has output_type"),
        (sample(continuations=[" x", " x"]), DEFINITION, "all options of item t:0"),
        (sample(target="7"), DEFINITION, "no right option"),
        (sample(target='"z"'), DEFINITION, "no right option"),
        (sample(continuations=["", " "], target="0"), DEFINITION, "all options"),
        (sample(prompt=" "), DEFINITION, "no prompt"),
    ],
)
def test_items_without_a_text_to_write_are_refused(row, definition, said):
    with pytest.raises(PrunegridError, match=said):
        items_of([row], definition, "here")
