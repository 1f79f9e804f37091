"""The data stage: splits, columns, ids, and the faults of data that it must not let through."""

import gzip
import json
from types import SimpleNamespace

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import columns
from prunegrid.stages import data as stage
from tests.helpers import synthetic

ROWS = [{"id": f"r{i}", "body": f"Document {i}.", "short": f"Short {i}."} for i in range(20)]
COLUMNS = {"document": "body", "summary": "short"}


@pytest.fixture
def run(tmp_path):
    """Runs the stage over a local JSONL file; returns (splits as lists, record, folder)."""

    def run(
        rows=ROWS, splits=None, kind="summaries", columns=COLUMNS, form=None, name="rows.jsonl"
    ):
        path = tmp_path / name
        if isinstance(rows, list):
            rows = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(rows)
        settings = {
            "source": {"kind": "local", "path": str(path)},
            "kind": kind,
            "format": form,
            "columns": columns,
            "splits": splits or {"test": "all"},
        }
        return finish(settings, tmp_path)

    return run


def finish(settings, tmp_path):
    out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
    out.mkdir()
    job = SimpleNamespace(where="datasets.mine", scratch=tmp_path / "scratch", device="cpu")
    record = stage.run(settings, {}, out, job)
    splits = {p.stem: pyarrow.parquet.read_table(p).to_pylist() for p in out.glob("*.parquet")}
    return splits, record, out


def test_rows_become_id_document_summary(run):
    splits, record, _ = run()
    assert splits["test"][3] == {"id": "all:3", "document": "Document 3.", "summary": "Short 3."}
    assert record["splits"]["test"]["rows"] == 20 and record["splits"]["test"]["from"] == "all"
    assert record["source"]["kind"] == "local" and len(record["source"]["files"]["all"]) == 64


def test_the_same_rows_are_the_same_bytes_and_another_row_is_not(run):
    (_, first, a), (_, second, b) = run(), run()
    assert first == second
    assert (a / "test.parquet").read_bytes() == (b / "test.parquet").read_bytes()
    _, other, _ = run([*ROWS[:-1], ROWS[-1] | {"body": "Another."}])
    assert other["splits"]["test"]["sha256"] != first["splits"]["test"]["sha256"]


@pytest.mark.parametrize(
    ("expression", "first", "last"),
    [
        ("all", 0, 20),
        ("all[:90%]", 0, 18),
        ("all[90%:]", 18, 20),
        ("all[5:7]", 5, 7),
        ("all[-3:]", 17, 20),
        ("all[:33%]", 0, 7),
        ("all[15:5000]", 15, 20),
    ],
)
def test_slices_are_those_of_datasets(run, expression, first, last):
    splits, _, _ = run(splits={"test": expression})
    assert [row["id"] for row in splits["test"]] == [f"all:{i}" for i in range(first, last)]


@given(rows=st.integers(1, 5000), percent=st.integers(1, 99))
def test_two_parts_of_a_split_hold_each_row_once(rows, percent):
    try:
        head = stage.bounds("all", f"[:{percent}%]", rows, "here")
        tail = stage.bounds("all", f"[{percent}%:]", rows, "here")
    except PrunegridError as error:
        assert "is empty" in str(error)
    else:
        assert (head[0], head[1], tail[1]) == (0, tail[0], rows)


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("all[7:7]", "is empty"),
        ("all[a:b]", "cannot be read"),
        ("all[:10]+all[12:]", r"expected a split of the source, or one with a slice"),
        ("train", "there is no split 'train'; .*known: all"),
    ],
)
def test_splits_that_cannot_be_had(run, expression, fault):
    with pytest.raises(PrunegridError, match=fault):
        run(splits={"test": expression})


def test_columns_nested_joined_and_listed(run):
    rows = [{"key": 7, "s": {"a": ["One.", "Two."], "b": "Three."}, "out": {"x": "Four."}}]
    wanted = {"id": "key", "document": ["s.a", "s.b"], "summary": "out.x"}
    splits, _, _ = run(rows, columns=wanted)
    assert splits["test"] == [{"id": "7", "document": "One. Two.\nThree.", "summary": "Four."}]


def test_a_file_of_tabs_is_read_by_its_ending(run):
    splits, _, _ = run("body\tshort\nOne, two.\tOne.\n", name="rows.tsv")
    assert splits["test"] == [{"id": "all:0", "document": "One, two.", "summary": "One."}]


@pytest.mark.parametrize(
    "row",
    [
        {"a.b.c": "x"},
        {"a": {"b": {"c": "x"}}},
        {"a": {"b.c": "x"}},
        {"a.b": {"c": "x"}},
        {"a.b.c": "x", "a": {"b": {"c": "y"}}},
        {"a.b": "no mapping", "a": {"b": {"c": "x"}}},
        {"a.b": {"d": "y"}, "a": {"b.c": "x"}},
    ],
)
def test_dots_are_a_columns_own_or_lead_into_it(row):
    assert columns.reach(row, "a.b.c", "here") == "x"


def test_a_missing_column_lists_what_there_is(run):
    with pytest.raises(PrunegridError, match="no column 'boddy'; did you mean 'body'.*short"):
        run(columns={"document": "boddy", "summary": "short"})
    with pytest.raises(PrunegridError, match="known: s.a, s.b"):
        run([{"s": {"a": "x", "b": "y"}}], columns={"document": "s.c", "summary": "s.a"})


def test_values_that_are_no_text(run):
    with pytest.raises(PrunegridError, match="row all:0: the column 'body' holds nothing"):
        run([{"body": None, "short": "x"}])
    with pytest.raises(PrunegridError, match=r"holds dict.*inside of it: a, b"):
        run([{"body": {"a": 1, "b": 2}, "short": "x"}])


@pytest.mark.parametrize("fault", [{"body": "  \n"}, {"short": ""}])
def test_an_empty_document_or_summary_names_its_row(run, fault):
    name = {"body": "document", "short": "summary"}[next(iter(fault))]
    rows = [*ROWS[:4], ROWS[4] | fault, *ROWS[5:]]
    with pytest.raises(PrunegridError, match=f"the {name} of row r4 is empty.*its slice"):
        run(rows, columns=COLUMNS | {"id": "id"})


def test_text_keeps_blank_rows_and_counts_them(run):
    rows = [{"text": "A."}, {"text": ""}, {"text": "B."}]
    splits, record, _ = run(rows, kind="text", columns={"text": "text"})
    assert [row["text"] for row in splits["test"]] == ["A.", "", "B."]
    assert record["splits"]["test"]["blank"] == 1


def test_training_and_test_rows_must_not_overlap(run):
    overlapping = {"train": "all[:12]", "test": "all[10:]"}
    with pytest.raises(PrunegridError, match="'test' and 'train' share 2 rows, such as 'all:10'"):
        run(splits=overlapping)
    _, record, _ = run(splits={"train": "all[:12]", "calibration": "all[:4]"})
    assert record["same_texts"] == {"calibration/train": 4}


def test_ids_are_unique_within_a_split(run):
    rows = [{"id": "x", "body": "a", "short": "b"}] * 2
    with pytest.raises(PrunegridError, match="two rows of the split 'test' have the id 'x'"):
        run(rows, columns=COLUMNS | {"id": "id"})


def test_texts_that_two_splits_share_are_counted(run):
    rows = [{"body": "Same.", "short": "a"}, {"body": "Same.", "short": "b"}]
    _, record, _ = run(rows, splits={"train": "all[:1]", "test": "all[1:]"})
    assert record["same_texts"] == {"test/train": 1}


def test_the_same_text_in_files_of_other_names_is_counted_or_refused(tmp_path):
    """Texts are the same without case, marks and spacing; calibration may share them."""
    (tmp_path / "a.jsonl").write_text('{"b": "One, two.", "s": "x"}\n{"b": "Three", "s": "y"}\n')
    (tmp_path / "b.csv").write_text("b,s\none  TWO!,z\nfour,z\n")
    settings = {
        "source": {"kind": "local", "path": str(tmp_path)},
        "kind": "summaries",
        "format": None,
        "columns": {"document": "b", "summary": "s"},
        "splits": {"train": "train", "test": "test", "calibration": "test"},
    }
    settings["source"]["files"] = {"train": "a.jsonl", "test": "b.csv"}
    _, record, _ = finish(settings, tmp_path)
    shared = {"calibration/test": 2, "calibration/train": 1, "test/train": 1}
    assert record["same_texts"] == shared
    with pytest.raises(PrunegridError, match="'test' and 'train' share 1 texts.*leaks: mark"):
        finish(settings | {"leaks": "refuse"}, tmp_path)
    apart = settings | {"splits": {"train": "train[1:]", "test": "test", "calibration": "test"}}
    finish(apart | {"leaks": "refuse"}, tmp_path)


def test_several_local_files_are_splits(tmp_path):
    rows = [json.dumps(row) for row in synthetic.bills(6, seed=1)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows[:4]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[4:]).encode()))
    settings = {
        "source": {
            "kind": "local",
            "path": str(tmp_path),
            "files": {"train": "a.jsonl", "test": "b.jsonl.gz"},
        },
        "kind": "summaries",
        "format": None,
        "columns": {"document": "text", "summary": "summary"},
        "splits": {"train": "train[:3]", "dev": "train[3:]", "test": "test"},
    }
    splits, _, _ = finish(settings, tmp_path)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 3, "dev": 1, "test": 2}
    assert splits["dev"][0]["id"] == "train:3"


def test_synthetic_texts_have_the_promised_lengths():
    rows = synthetic.bills(50, seed=0)
    assert rows == synthetic.bills(50, seed=0) != synthetic.bills(50, seed=1)
    assert all(60 <= len(row["text"].split()) <= 205 for row in rows)
    assert all(8 <= len(row["summary"].split()) <= 30 for row in rows)
