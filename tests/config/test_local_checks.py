"""Columns and lengths that local files and models cannot have are told before a run."""

from __future__ import annotations

import gzip
import json

import pandas
import pytest

from prunegrid.config import local_data
from prunegrid.config.config_files import ConfigError
from prunegrid.config.load import validate
from tests.helpers import shipped

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "max_position_embeddings": 64,
}


@pytest.fixture(autouse=True)
def inputs(tmp_path, monkeypatch):
    """A model of 64 positions and ten short reports."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model/model.safetensors").write_bytes(b"")
    rows = [{"body": f"report {i}", "inner": {"gist": "short"}} for i in range(10)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def faults(base, **changes):
    """Return the faults of a study of these reports, some settings changed."""
    given = {"document": "body", "window": 32, "length": 32, "new": 16, "test": "all[5:]"} | changes
    raw = shipped.config()
    raw["models"]["m"] = {"source": "model"}
    raw["datasets"]["d"] = {
        "source": "r.jsonl",
        "columns": {"document": given["document"], "summary": "inner.gist"},
        "splits": {"train": "all[:5]", "test": given["test"]},
    }
    raw["calibration"]["c"] = {"dataset": "d", "split": "train", "length": given["length"]}
    raw["prune"]["p"] = {"method": "wanda", "pattern": "2:4", "calibration": "c"}
    raw["generation"]["g"] = {"max_new_tokens": given["new"]}
    raw["evaluations"]["t"] = {
        "kind": "texts", "splits": ["test"], "generation": "g", "metrics": ["length"]
    }  # fmt: skip
    raw["evaluations"]["e"] = {
        "kind": "perplexity", "dataset": "d", "split": "test", "window": given["window"]
    }  # fmt: skip
    grid = {"model": "m", "prune": "p"}
    raw["studies"]["s"] = {"dataset": "d", "grid": grid, "evaluations": ["t", "e"]}
    try:
        validate(raw, shipped.FILES, base)
    except ConfigError as error:
        return error.faults
    return []


@pytest.mark.parametrize(
    ("changes", "place", "word"),
    [
        ({"document": "bodi"}, "datasets.d.columns.document", "did you mean 'body'"),
        ({"document": ["body", "inner.gest"]}, "datasets.d.columns.document", "inner.gist"),
        ({"test": "all[10:]"}, "datasets.d.splits.test", "at most 10 rows"),
        ({"window": 65}, "studies.s", "64 positions"),
        ({"length": 65}, "studies.s", "64 positions"),
        ({"new": 64}, "studies.s", "64 positions"),
        ({"length": 2000}, "calibration.c.length", "hold at most"),
        ({"window": 2000}, "evaluations.e.window", "hold at most"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(inputs, changes, place, word):
    told = faults(inputs, **changes)
    assert any(place in fault and word in fault for fault in told), told


@pytest.mark.parametrize("changes", [{}, {"window": 64, "length": 64, "new": 63}])
def test_what_may_be_passes(inputs, changes):
    assert faults(inputs, **changes) == []


def test_the_columns_of_each_format(inputs):
    (inputs / "a.csv").write_text("one,two\n1,2\n")
    (inputs / "a.tsv").write_text("one\ttwo\n1\t2\n")
    (inputs / "a.json").write_text('[{"one": 1, "two": {"in": 2}}]')
    with gzip.open(inputs / "a.jsonl.gz", "wt") as handle:
        handle.write('{"one": 1}\n')
    pandas.DataFrame({"one": [1], "two": [2]}).to_parquet(inputs / "a.parquet")
    (inputs / "broken.jsonl").write_text("{")
    names = {"a.csv": 2, "a.tsv": 2, "a.json": 3, "a.jsonl.gz": 1, "a.parquet": 2}
    for name, count in names.items():
        assert len(local_data.columns(inputs / name)) == count
        assert local_data.columns(inputs / name)[0] == "one"
    assert local_data.columns(inputs / "a.json")[-1] == "two.in"
    assert local_data.columns(inputs / "broken.jsonl") == []


def test_what_is_packed_or_one_array_tells_no_length(inputs):
    (inputs / "a.json").write_text('[{"one": 1}]')
    (inputs / "b.jsonl.gz").write_bytes(gzip.compress(b'{"one": 1}\n'))
    for name in ("a.json", "b.jsonl.gz"):
        assert local_data.most_tokens([inputs / name]) is None
    assert local_data.most_rows([inputs / "r.jsonl"]) == 10


def test_rows_are_counted_before_a_run(inputs, monkeypatch):
    frame = pandas.DataFrame({"one": range(7)})
    frame.to_parquet(inputs / "a.parquet")
    frame.assign(two="line\nbreak").to_csv(inputs / "a.csv", index=False)
    (inputs / "a.json").write_text(frame.to_json(orient="records"))
    (inputs / "a.txt").write_text("one\n\ntwo\n")
    with gzip.open(inputs / "a.jsonl.gz", "wt") as handle:
        handle.write('{"one": 1}\n' * 7)
    for name in ("a.parquet", "a.csv", "a.json", "a.jsonl.gz"):
        assert local_data.likely_rows([inputs / name]) == 7, name
    assert local_data.likely_rows([inputs / "a.txt", inputs / "a.json"]) == 9
    monkeypatch.setattr(local_data, "SHORT", 60)  # two lines of the ten and a part of a third
    about = local_data.likely_rows([inputs / "r.jsonl"])
    assert 8 <= about <= 16
    assert local_data.likely_rows([inputs / "a.jsonl.gz"]) is None
    assert local_data.likely_rows([inputs / "a.json"]) is None
    packed = bytearray((inputs / "a.jsonl.gz").read_bytes())
    packed[18:22] = b"\xff" * 4  # after the header
    (inputs / "broken.jsonl.gz").write_bytes(packed)
    (inputs / "broken.jsonl.xz").write_bytes(b"\xfd7zXZ\0 and no more")
    (inputs / "deep.json").write_text("[" * 10_000)
    for name in ("broken.jsonl.gz", "broken.jsonl.xz", "deep.json"):
        assert local_data.likely_rows([inputs / name]) is None
        assert local_data.columns(inputs / name) == []
    (inputs / "broken.json").write_text("[{")
    (inputs / "a.xml").write_text("<mediawiki>")
    for name in ("broken.json", "a.xml", "nowhere.jsonl"):
        assert local_data.likely_rows([inputs / name]) is None
    assert local_data.likely_rows([]) is None
