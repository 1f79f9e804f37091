"""The shipped tasks of probes, asked of a tiny model: chance, options, and accuracy by length."""

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunegrid.data import last_words
from prunegrid.data.probes import brackets, sums
from tests.helpers import shipped
from tests.helpers.asked_tasks import ask
from tests.helpers.asked_tasks import weights as weights  # a fixture

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
        assert sample["prompt"] == item["question"]
        assert list(sample["continuations"]) == [f" {option}" for option in item["options"]]
        assert int(sample["target"]) == item["answer"]
    # Accuracy by length, as the page of tasks shows it: items are in the order of the rows.
    lengths = pandas.read_parquet(data / "test.parquet", columns=["length"])["length"]
    right = scores[scores["metric"] == "acc"]
    places = right["id"].str.rpartition(":")[2].astype(int)
    by_length = right["value"].groupby(lengths.loc[places].to_numpy()).agg(["mean", "size"])
    assert by_length["size"].sum() == len(items)
    assert set(by_length.index) == {item["length"] for item in items}
