"""The stage `rows`: all columns as they are, sliced, from files and from the hub's form alike."""

import json
from types import SimpleNamespace

import datasets
import pyarrow.parquet as pq
import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.stages import rows
from tests.helpers import benchmark_rows


def read(tmp_path, lines, splits):
    """Return ({split: rows}, record) of a file of JSON lines."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out"
    out.mkdir()
    job = SimpleNamespace(where="test", scratch=tmp_path / "scratch")
    source = {"kind": "local", "path": str(file)}
    settings = {"source": source, "format": "jsonl", "splits": splits}
    record = rows.run(settings, {}, out, job)
    return {path.stem: pq.read_table(path).to_pylist() for path in out.glob("*.parquet")}, record


def test_rows_are_the_sources(tmp_path):
    made = benchmark_rows.openbookqa(10)
    splits, record = read(tmp_path, made, {"test": "all[2:7]", "rest": "all[7:]"})
    assert splits == {"test": made[2:7], "rest": made[7:]}
    assert record["splits"]["test"] == {
        "from": "all[2:7]",
        "rows": 5,
        "columns": ["question_stem", "choices", "answerKey"],
    }


def test_a_column_that_some_rows_lack_is_empty_there(tmp_path):
    splits, _ = read(tmp_path, [{"a": 1}, {"a": 2, "b": "x"}], {"all": "all"})
    assert splits["all"] == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


def test_a_column_of_two_kinds_is_told(tmp_path):
    with pytest.raises(PrunegridError, match="values of a column are of different kinds"):
        read(tmp_path, [{"a": 1}, {"a": "two"}], {"all": "all"})


def test_the_hubs_form_gives_the_same_rows():
    made = benchmark_rows.openbookqa(9)
    table = rows.table_of(datasets.Dataset.from_list(made), 3, 8, "test")
    assert table.to_pylist() == made[3:8] == rows.table_of(made, 3, 8, "test").to_pylist()
    named = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])}
    )
    labelled = datasets.Dataset.from_list([{"sentence": "s", "label": 1}], features=named)
    assert rows.table_of(labelled, 0, 1, "test").to_pylist() == [{"sentence": "s", "label": 1}]
    assert rows.table_of(labelled, 0, 1, "test").schema.metadata is None
