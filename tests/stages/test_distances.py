"""The stage `distances`: windows, their sums, and the two models that it names."""

import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.models import checkpoint
from prunegrid.stages import distances, perplexity
from tests.helpers import tiny, tiny_encoders

pytestmark = pytest.mark.model

SETTINGS = {
    "split": "test",
    "column": "text",
    "protocol": "nonoverlap",
    "window": 12,
    "stride": None,
    "max_windows": None,
    "special_tokens": False,
    "cache_dequantized": False,
}
WORDS = " ".join(tiny.WORDS)
TEXTS = [f"{WORDS} text", "w3 w4 w5 summary : w1", f"w9 {WORDS[:60]}"]


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distances")
    (folder / "data").mkdir()
    ids = [str(i) for i in range(len(TEXTS))]
    pq.write_table(pa.table({"id": ids, "text": TEXTS}), folder / "data/test.parquet")
    dense = tiny.artifact(folder / "dense", "llama")
    weights = tiny.artifact(folder / "weights", "llama", "2:4")
    return {"weights": weights, "dense": dense, "data": folder / "data"}


def run(tmp_path, parents, **changes):
    tmp_path.mkdir(exist_ok=True)
    record = distances.run({**SETTINGS, **changes}, parents, tmp_path, tiny.job())
    files = [pandas.read_parquet(tmp_path / f"{name}.parquet") for name in ("windows", "scores")]
    return record, *files


@pytest.mark.parametrize(
    "protocol", [{}, {"protocol": "stride", "stride": 5}, {"protocol": "words", "window": 9}]
)
def test_windows_are_those_of_the_perplexity(parents, tmp_path, protocol):
    record, windows, scores = run(tmp_path / "a", parents, **protocol)
    for role, column in (("weights", "loss"), ("dense", "dense_loss")):
        out = tmp_path / role
        out.mkdir()
        asked = {"weights": parents[role], "data": parents["data"]}
        said = perplexity.run({**SETTINGS, **protocol}, asked, out, tiny.job())
        own = pandas.read_parquet(out / "windows.parquet")
        assert windows["tokens"].tolist() == own["tokens"].tolist()
        assert windows[column].tolist() == pytest.approx(own["loss"].tolist(), rel=1e-5)
        assert record["tokens"] == said["tokens"]
    total = windows["tokens"].sum()
    summary = record["summary"]
    assert summary["kl"]["mean"] == pytest.approx(windows["kl"].sum() / total)
    assert summary["agreement"]["mean"] == pytest.approx(windows["agree"].sum() / total)
    assert summary["kl"]["mean"] > 0 and 0 < summary["agreement"]["mean"] < 1
    assert {one["n"] for one in summary.values()} == {len(windows)} == {record["rows"]}
    sums = scores.groupby("metric")[["value", "weight"]].sum()
    means = (sums["value"] / sums["weight"]).to_dict()
    assert means == pytest.approx({metric: one["mean"] for metric, one in summary.items()})


def test_the_record_names_both_models(parents, tmp_path):
    record, _, _ = run(tmp_path / "a", parents)
    for role, found in (
        ("weights", record["weights"]["sha256"]),
        ("dense", record["dense_sha256"]),
    ):
        manifest = file_io.read_json(parents[role] / "manifest.json")
        assert found == manifest["record"]["weights"]["sha256"]


def test_dense_itself_agrees_and_has_no_divergence(parents, tmp_path):
    alone = {"weights": parents["dense"], "data": parents["data"]}
    record, windows, _ = run(tmp_path / "a", alone)
    assert record["summary"]["kl"]["mean"] == 0 and record["summary"]["agreement"]["mean"] == 1
    assert (windows["loss"] == windows["dense_loss"]).all()
    other, _, _ = run(tmp_path / "b", {**alone, "dense": parents["dense"]})
    assert other["summary"]["kl"]["mean"] == 0


def test_pairs_of_windows_are_told_by_their_tokens(parents, tmp_path):
    one, two, three = (
        run(tmp_path / name, parents, **changes)[0]["items_sha256"]
        for name, changes in (("a", {}), ("b", {}), ("c", {"window": 10}))
    )
    assert one == two != three


def test_a_tokenizer_that_was_altered_is_refused(parents, tmp_path):
    altered = tmp_path / "altered"
    altered.mkdir()
    made = tiny.model("llama")
    tiny.prune_(made, "2:4")
    words = tiny.tokenizer(unk_token="<pad>")
    words.add_tokens(["w3 w4"])
    tiny.finish(altered, checkpoint.write_plain(made, words, altered, "2:4").record)
    with pytest.raises(PrunegridError, match="test: the tokenizer cuts the text into other"):
        run(tmp_path / "out", {**parents, "weights": altered})


def test_an_encoder_and_a_window_beyond_the_positions_are_refused(parents, tmp_path):
    encoder = tiny_encoders.weights(tmp_path / "encoder", None, task="encoder")
    with pytest.raises(PrunegridError, match="distances needs a causal language model"):
        run(tmp_path / "a", {**parents, "weights": encoder})
    with pytest.raises(PrunegridError, match="at most the model's 64 positions"):
        run(tmp_path / "b", parents, window=65)
