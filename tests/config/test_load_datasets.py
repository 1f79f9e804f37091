"""Data sets in the config: their files and formats, and settings that make no sense."""

import pytest

from prunegrid.common.data_formats import format_of
from prunegrid.graph.key_settings import Slices
from tests.helpers import shipped
from tests.helpers.shipped import changed, check, faults


@pytest.fixture(scope="module")
def raw():
    return shipped.config()


@pytest.mark.parametrize("name", ["a.tsv", "a.ndjson", "a.TSV.gz", "a.ndjson.gz", "a.xml"])
def test_a_file_whose_ending_tells_needs_no_format(raw, tmp_path, name):
    (tmp_path / name).touch()
    mine = {"source": str(tmp_path / name), "columns": {"text": "text"}, "splits": {"test": "all"}}
    config = check(changed(raw, "datasets", "mine", mine | {"kind": "text"}))
    assert Slices(config).data("mine")["format"] == format_of(name) is not None


@pytest.mark.parametrize(
    ("files", "form"),
    [
        ({"train": "a.tsv", "test": "b.jsonl"}, None),
        ({"train": ["a.tsv", "c.csv.gz"], "test": "c.csv.gz"}, "csv"),
        ({"train": "parts", "test": "b.jsonl"}, None),
        ({"train": "*.jsonl", "test": "b.jsonl"}, "jsonl"),
        ("parts/", None),
        (None, None),
    ],
)
def test_each_file_has_the_format_of_its_ending(raw, tmp_path, files, form):
    (tmp_path / "parts").mkdir()
    for name in ("a.tsv", "b.jsonl", "c.csv.gz", "parts/d.txt"):
        (tmp_path / name).touch()
    mine = {"source": str(tmp_path), "columns": {"text": "text"}, "kind": "text", "files": files}
    mine["splits"] = dict.fromkeys(["test"], "test" if isinstance(files, dict) else "all")
    config = check(changed(raw, "datasets", "mine", mine))
    assert Slices(config).data("mine")["format"] == form


def test_a_wheel_has_one_file_a_split_and_no_list_leaves_its_folder(raw):
    wheel = raw["datasets"]["wikipedia"]
    (found,) = faults(changed(raw, "datasets", "wikipedia", wheel | {"files": [wheel["files"]]}))
    assert "datasets.wikipedia" in found and "no lists" in found
    mine = raw["datasets"]["c4"]
    found = faults(
        changed(raw, "datasets", "c4", mine | {"files": {"train": ["a.csv", "../b.csv"]}})
    )
    assert any("datasets.c4.files.train" in each and "../b.csv" in each for each in found)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"chat": False, "chat_date": "2024-07-26"}, "chat: true"),
        ({"chat": True, "chat_date": "26 Jul 2024"}, "2024-07-26"),
        ({"chat": True, "chat_date": "2024-13-01"}, "2024-07-26"),
        ({"leaks": "drop"}, "mark"),
    ],
)
def test_settings_of_a_data_set_that_make_no_sense(raw, changes, word):
    found = faults(changed(raw, "datasets", "billsum", raw["datasets"]["billsum"] | changes))
    assert any("datasets.billsum" in each and word in each for each in found)


def test_a_date_and_a_refusal_are_in_the_keys_only_where_they_are_set(raw):
    plain = Slices(check(raw))
    own = raw["datasets"]["aclsum"] | {"chat_date": "2023-01-02", "leaks": "refuse"}
    config = check(changed(raw, "datasets", "aclsum", own))
    dated = config.profile("datasets", "aclsum").prompt_settings()
    assert dated["chat_date"] == "2023-01-02"
    assert "chat_date" not in plain.config.profile("datasets", "aclsum").prompt_settings()
    assert Slices(config).data("aclsum") == plain.data("aclsum") | {"leaks": "refuse"}
