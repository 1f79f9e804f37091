"""Templates: what a row becomes, and rows and templates that do not fit."""

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.data.templates import Templates


def test_templates_are_filled_with_a_rows_columns():
    texts = {"q": "Q: {{goal | words(2)}}\nA:\n", "a": " {{[sol1, sol2][label]}}", "none": None}
    row = {"goal": "mend a cup", "sol1": "no", "sol2": "glue", "label": 1}
    filled = {"q": "Q: mend a\nA:\n", "a": " glue", "none": None}
    assert Templates(texts, "x").fill(row, "3") == filled


@pytest.mark.parametrize(
    ("prompt", "response", "text"),
    [
        ("{{goal", "{{goal}}", "template is malformed"),
        ("{{gaol}}", "{{goal}}", "x: row 3 does not fill a template.*gaol"),
        ("{{goal}}", "{{[goal][label]}}", "row 3 does not fill a template"),
        ("{{goal}}", "{{''}}", "response of row 3 is empty"),
        ("{{goal.__class__.__mro__}}", "{{goal}}", "does not fill a template"),
    ],
)
def test_what_does_not_fill_a_template_is_told(prompt, response, text):
    with pytest.raises(PrunegridError, match=text):
        texts = {"prompt": prompt, "response": response}
        Templates(texts, "x").fill({"goal": "mend", "label": 7}, "3")
