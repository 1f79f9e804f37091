"""Source strings: what is suggested for a path at which there is nothing; rows of a slice."""

from __future__ import annotations

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.config import sources
from prunegrid.config.sources import parse_source
from prunegrid.stages import data


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("inputs/modl", "did you mean inputs/model?"),
        ("input/model", "did you mean inputs/model?"),
        ("inputs/reports.jsonl/x", "expected"),
        ("org/model", "did you mean hf:org/model?"),
    ],
)
def test_the_nearest_path_that_exists_comes_before_a_name_of_the_hub(tmp_path, text, hint):
    (tmp_path / "inputs/model").mkdir(parents=True)
    (tmp_path / "inputs/reports.jsonl").touch()
    with pytest.raises(ValueError, match="there is no file or folder") as caught:
        parse_source(text, tmp_path)
    assert hint in str(caught.value)
    with pytest.raises(ValueError, match="there is no file or folder") as caught:
        parse_source(str(tmp_path / "inputs/modle"), tmp_path / "elsewhere")
    assert f"did you mean {tmp_path}/inputs/model?" in str(caught.value)


@pytest.mark.parametrize("rows", [0, 1, 7, 100, 101])
@pytest.mark.parametrize(
    "part",
    ["", "[:5]", "[:90%]", "[90%:]", "[2:6]", "[-5:]", "[-5:-2]", "[:]", "[50:20]", "[1%:50%]"],
)
def test_rows_taken_by_a_slice_are_those_that_the_data_step_takes(rows, part):
    try:
        first, last = data.bounds("all", part, rows, "")
    except PrunegridError:  # nothing is left of the rows
        first = last = 0
    assert sources.rows_taken(f"all{part}", rows) == last - first


def test_some_slices_tell_their_rows_before_the_split_is_known():
    counts = {"[:5]": 5, "[100:250]": 150, "[-50:-10]": 40, "": None, "[:90%]": None, "[5:]": None}
    assert {part: sources.rows_taken(f"train{part}", None) for part in counts} == counts
    assert sources.rows_taken("no [expression", 10) is None
