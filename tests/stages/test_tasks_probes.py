"""The shipped tasks of probes, asked of a tiny model: chance, options, and accuracy by length."""

import contextlib
import io

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunegrid.data import last_words
from prunegrid.data.probes import brackets, sums
from tests.helpers import ROOT, shipped
from tests.helpers.asked_tasks import ask
from tests.helpers.asked_tasks import weights as weights  # a fixture
from tests.helpers.doc_pages import blocks

pytestmark = pytest.mark.model

COUNT = 16
PASSAGE = (
    "Rivers of the northern valley carried timber, copper and barley towards harbours where "
    "merchants counted barrels. Every autumn the merchants hired sailors, and the sailors loaded "
    "timber beside copper while children watched barley drift along the rivers. Nobody in the "
    "valley remembered harbours without sailors, barrels without copper, or autumn without the "
    "merchants and their timber."
)


def rows(name, monkeypatch):
    if name == "cloze":
        monkeypatch.setattr(last_words, "COMMONEST", 1)
        return last_words.items([{"id": "a", "text": PASSAGE}])
    return {"sums": sums, "brackets": brackets}[name].items()[:COUNT]


@pytest.mark.parametrize("name", ["sums", "brackets", "cloze"])
def test_a_probe_is_asked_and_its_chance_is_known(tmp_path, weights, monkeypatch, name):
    items = rows(name, monkeypatch)
    data = tmp_path / "data"
    data.mkdir()
    pq.write_table(pa.Table.from_pylist(items), data / "test.parquet")
    profile = shipped.config()["tasks"][name]
    assert (profile["dataset"], profile["split"]) == (name, "test")
    record, scores, samples = ask(
        tmp_path, weights, name, data, define=profile["define"], split="test"
    )
    assert record["summary"]["acc"]["chance"] == 0.25 and record["rows"] == len(items) > 0
    for item, sample in zip(items, samples.to_dict("records"), strict=True):
        before, _, asked = sample["prompt"].rpartition("\n")
        assert asked == item["question"] and bool(before) == (name == "sums")
        assert list(sample["continuations"]) == [f" {option}" for option in item["options"]]
        assert int(sample["target"]) == item["answer"]
    shown = {int(line.split()[0]): line.split()[1:] for line in by_length(tmp_path, data, name)}
    right = dict(zip(scores["id"], scores["value"], strict=True))
    for length, (mean, size) in shown.items():
        own = [right[f"{name}:{n}"] for n, item in enumerate(items) if item["length"] == length]
        assert float(mean) == pytest.approx(sum(own) / len(own)) and int(size) == len(own)
    assert sum(int(size) for _, size in shown.values()) == len(items)


def by_length(tmp_path, data, name):
    """The lines that the page of tasks prints of a task: length, mean, size."""
    (block,) = blocks(ROOT / "docs/reference/tasks.md", "python")
    code = block.text.replace("0-sums", f"0-{name}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"pandas": pandas, "rows": data, "answers": tmp_path / "out"})
    return printed.getvalue().splitlines()[1:]
