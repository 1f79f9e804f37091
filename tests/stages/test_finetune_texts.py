"""Tuning on windows of a text: what is learned, what has a loss, what is held out."""

from __future__ import annotations

import math
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.stages import finetune, perplexity
from tests.helpers import tiny

pytestmark = pytest.mark.model

WINDOW = 12


def texts(folder, **documents):
    """Return a data artifact whose splits hold so many documents each."""
    folder.mkdir()
    for seed, (split, count) in enumerate(documents.items()):
        draw = random.Random(seed)
        rows = [
            {"id": f"d{n}", "text": " ".join(draw.choices(tiny.WORDS, k=20))} for n in range(count)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


def tune(tmp_path, parent, data, name="out", window=WINDOW, **changes):
    """Return (record, story, folder) of one finetune step on a text."""
    settings = tiny.finetune("full", window=window, column="text", **changes)
    del settings["prompt"], settings["max_summary_tokens"]
    out = tmp_path / name
    out.mkdir()
    record = finetune.run(settings, {"weights": parent, "data": data}, out, tiny.job())
    tiny.finish(out, record["weights"])
    return record, file_io.read_json(out / "finetune.json"), out


def test_zeros_stay_and_the_text_is_learned(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    record, story, _ = tune(tmp_path, parent, texts(tmp_path / "data", train=12), epochs=4)
    assert record["train"]["last_loss"] < record["train"]["first_loss"]
    assert record["train"]["zeros_filled"] == 0 and record["weights"]["nm_valid"] is True
    assert story["window"] == WINDOW and "prompt_sha256" not in story
    assert story["tokens"] == 4 * WINDOW * story["rows"]
    # All tokens of a window but its first are predicted.
    assert story["scored_tokens"] == 4 * (WINDOW - 1) * story["rows"]


def test_held_out_windows_are_those_of_a_perplexity(tmp_path):
    """The loss before training is the log of the parent's perplexity on the same windows."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    data = texts(tmp_path / "data", train=12, dev=8)
    record, story, _ = tune(tmp_path, parent, data, dev_split="dev", dev_rows=5, max_steps=1)
    settings = {
        "split": "dev", "column": "text", "protocol": "nonoverlap", "window": WINDOW,
        "stride": None, "max_windows": 5, "special_tokens": False, "cache_dequantized": False,
    }  # fmt: skip
    (tmp_path / "ppl").mkdir()
    parents = {"weights": parent, "data": data}
    measured = perplexity.run(settings, parents, tmp_path / "ppl", tiny.job())
    assert measured["windows"] == 5
    assert story["dev_losses"][0][1] == pytest.approx(math.log(measured["perplexity"]), rel=1e-5)
    assert record["train"]["dev_rows"] == 5 and record["train"]["dev_rows_learned"] == 0


def test_windows_that_are_learned_and_held_out_are_counted(tmp_path, caplog):
    parent = tiny.artifact(tmp_path / "parent", "llama")
    data = texts(tmp_path / "data", train=6)
    record, _, _ = tune(tmp_path, parent, data, dev_split="train", dev_rows=4, max_steps=1)
    assert record["train"]["dev_rows_learned"] == 4
    assert "4 of 4 development rows are learned too" in caplog.text


def test_a_number_of_rows_is_one_of_windows(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama")
    record, _, _ = tune(tmp_path, parent, texts(tmp_path / "data", train=12), rows=3, max_steps=1)
    assert record["train"]["rows"] == 3


@pytest.mark.parametrize(
    ("window", "message"),
    [(4000, "finetune.window is 4000.*at most the model's"), (60, "at least one window of 60")],
)
def test_windows_that_do_not_fit_are_refused(tmp_path, window, message):
    parent = tiny.artifact(tmp_path / "parent", "opt")
    with pytest.raises(PrunegridError, match=message):
        tune(tmp_path, parent, texts(tmp_path / "data", train=1), window=window)
