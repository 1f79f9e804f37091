"""Labels that encoders learn: the class that a row's summary names."""

import math
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.models import open_checkpoint
from tests.helpers.tiny_tasks import encoder, require_zeros_kept, run

pytestmark = pytest.mark.model


def labelled(folder, rows=32):
    """Write a data artifact whose summaries name which of two words begins a text."""
    draw = random.Random(0)
    folder.mkdir()
    for split in ("train", "test"):
        made = []
        for number in range(rows):
            words = [draw.choice("abcdef") for _ in range(3 + number % 4)]
            first = draw.choice(("xx", "yy"))
            text = " ".join([first, *words])
            made.append({"id": f"{split}{number}", "document": text, "summary": first})
        pq.write_table(pa.Table.from_pylist(made), folder / f"{split}.parquet")


@pytest.mark.parametrize("kind", ["encoder", "masked-lm"])
@pytest.mark.parametrize(
    ("strategy", "changes"), [("full", {}), ("lora", {}), ("lora", {"adapter": "unmerged"}),
                              ("qlora", {}), ("norms", {})],
)  # fmt: skip
def test_an_encoder_learns_labels_and_keeps_its_zeros(tmp_path, kind, strategy, changes):
    place = encoder(tmp_path / "w", task=kind)
    labelled(tmp_path / "data")
    changes = {"loss_on": "label", "learning_rate": 5e-3, "epochs": 8, **changes}
    record, out = run(tmp_path, place, strategy, **changes)
    facts = record["train"]
    assert facts["labels"] == ["xx", "yy"] and facts["scored_tokens"] == 8 * 32
    assert facts["first_dev_loss"] == pytest.approx(math.log(2), abs=0.3)
    assert facts["dev_loss"] < facts["first_dev_loss"] - 0.1
    require_zeros_kept(place, out)
    # The head is gone: what is written is an encoder of the same tensors as before.
    names = {n.replace(".base_layer", "") for n in open_checkpoint.load(out).tensors}
    assert not any("label_head" in name for name in names)


def test_a_label_that_is_not_learned_is_refused(tmp_path):
    place = encoder(tmp_path / "w", task="encoder")
    labelled(tmp_path / "data")
    rows = [{"id": "a", "document": "xx a", "summary": "zz"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data/test.parquet")
    with pytest.raises(PrunegridError, match="'test' has the label 'zz'"):
        run(tmp_path, place, "lora", loss_on="label")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data/train.parquet")
    shutil.rmtree(tmp_path / "out-lora")
    with pytest.raises(PrunegridError, match="'train' has one label alone"):
        run(tmp_path, place, "lora", loss_on="label")
