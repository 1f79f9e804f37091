"""Source strings: what is suggested for a path at which there is nothing."""

from __future__ import annotations

import pytest

from prunegrid.config.sources import parse_source


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
