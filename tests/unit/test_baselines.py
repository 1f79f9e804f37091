"""Baselines and the step that makes their predictions."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from prunegrid.baselines import lead
from prunegrid.errors import PrunegridError
from prunegrid.keys import LIBRARY, literals
from prunegrid.stages import baseline as stage

FILES = sorted((LIBRARY / "prunegrid" / "baselines").glob("[!_]*.py"))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "document": ["one  two\nthree four", "five", " six seven eight "],
            "summary": ["s1", "s2", "s3"],
        }
    )
    frame.to_parquet(folder / "test.parquet")
    return folder


def run(data, tmp_path, name="out", **settings):
    out = tmp_path / name
    out.mkdir()
    settings = {"baseline": "lead", "split": "test", "rows": None, **settings}
    record = stage.run(settings, {"data": data}, out, SimpleNamespace())
    return record, out / "predictions.parquet"


def test_lead_takes_the_first_words_of_each_document(data, tmp_path):
    record, path = run(data, tmp_path, words=3)
    table = pq.read_table(path)
    assert table.schema.equals(stage.SCHEMA)
    assert table["prediction"].to_pylist() == ["one two three", "five", "six seven eight"]
    assert table["reference"].to_pylist() == ["s1", "s2", "s3"]
    assert table["prediction_tokens"].null_count == 3
    assert record == {"rows": 3, "weights": None}


def test_the_file_has_the_same_bytes_again(data, tmp_path):
    first, second = (run(data, tmp_path, name, words=2)[1] for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_rows_are_the_first_of_the_split(data, tmp_path):
    record, path = run(data, tmp_path, words=1, rows=2)
    assert pq.read_table(path)["id"].to_pylist() == ["a", "b"]
    assert record["rows"] == 2


def test_words_left_out_have_the_default(data, tmp_path):
    frame = pd.read_parquet(data / "test.parquet").assign(document="w " * 500)
    frame.to_parquet(data / "test.parquet")
    _, path = run(data, tmp_path, words=None)
    lengths = {len(text.split()) for text in pq.read_table(path)["prediction"].to_pylist()}
    assert lengths == {lead.SETTINGS["words"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "lede"}, "no baseline 'lede'"),
        ({"baseline": "../lead"}, "no baseline"),
        ({"split": "dev"}, "no split 'dev'.*test"),
        ({"count": 3}, "unknown setting 'count'"),
        ({"words": 0}, "words is 0"),
        ({"words": 2.5}, "words is 2.5"),
    ],
)
def test_unknown_names_and_bad_settings_are_errors(data, tmp_path, settings, message):
    with pytest.raises(PrunegridError, match=message):
        run(data, tmp_path, **settings)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_baseline_is_one_file_that_gives_a_text_a_row(path, data):
    rows = pd.read_parquet(data / "test.parquet")
    module = importlib.import_module(f"prunegrid.baselines.{path.stem}")
    assert literals(path)["SETTINGS"] == module.SETTINGS
    texts = module.predict(rows, module.SETTINGS, 0)
    assert len(texts) == len(rows)
    assert all(isinstance(text, str) for text in texts)
