"""Token ids of the fixed text: a tokenizer that cuts it otherwise than at import is told."""

import json
import logging

import pytest
from tokenizers import normalizers

from prunegrid.artifacts import artifact_folder, token_probe
from prunegrid.common import file_io
from prunegrid.data.sources.tiny import byte_tokenizer
from prunegrid.models import checkpoint, open_checkpoint
from prunegrid.tables.table_rows import other_token_ids, retokenized
from tests.helpers import tiny

pytestmark = pytest.mark.model


def tokenizer(**changes):
    settings = {"max_length": None, "add_bos": False, "encoder": False}
    return byte_tokenizer(**settings | changes)


@pytest.fixture
def weights(tmp_path):
    """A weights artifact one step behind a model whose token ids were recorded."""
    folder = tmp_path / "weights"
    folder.mkdir()
    record = checkpoint.write_plain(tiny.model("llama"), tokenizer(), folder, None).record
    ids = {token_probe.RECORDED: token_probe.ids_sha256(tokenizer())}
    manifest = {"lineage": [{"stage": "model", "record": ids}], "record": {"weights": record}}
    file_io.write_json(folder / artifact_folder.MANIFEST, manifest)
    return folder


def change(folder):
    """Give the folder's tokenizer a normalizer."""
    other = tokenizer()
    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    other.save_pretrained(folder)


def test_the_text_has_what_tokenizers_differ_in():
    for piece in ("  ", "\t", "\n\n", "1999", "日本", "🙂", "\u200d", "e\u0301", "return", "<s>"):
        assert piece in token_probe.TEXT


def test_equal_tokenizers_have_one_digest_and_others_another():
    digest = token_probe.ids_sha256(tokenizer())
    assert digest == token_probe.ids_sha256(tokenizer())
    assert digest != token_probe.ids_sha256(tokenizer(add_bos=True))


@pytest.mark.parametrize("load", [checkpoint.load, open_checkpoint.load])
def test_the_same_tokenizer_is_not_told(weights, caplog, load):
    heard = []
    with token_probe.listening(heard.append):
        load(weights)
    assert not heard and "token ids" not in caplog.text


@pytest.mark.parametrize("load", [checkpoint.load, open_checkpoint.load])
def test_a_changed_tokenizer_is_told(weights, caplog, load):
    change(weights)
    heard = []
    with caplog.at_level(logging.WARNING), token_probe.listening(heard.append):
        load(weights)
    assert heard == [str(weights)]
    assert "other token ids" in caplog.text and str(weights) in caplog.text
    load(weights)
    assert len(heard) == 1, "nobody listens any more"


def test_an_artifact_without_a_digest_is_not_compared(weights, caplog):
    file = weights / artifact_folder.MANIFEST
    manifest = json.loads(file.read_text())
    file_io.write_json(file, manifest | {"lineage": []})
    change(weights)
    checkpoint.load(weights)
    assert "token ids" not in caplog.text


def test_a_row_says_in_which_stages():
    steps = [{"stage": "model"}, {"stage": "prune", "other_token_ids": True}]
    steps += [{"stage": "tasks", "other_token_ids": True}] * 2
    assert other_token_ids(steps) == "prune+tasks" and other_token_ids(steps[:1]) is None
    cell = {"model": "m", "prune": "w", "finetune": "none", "dataset": "d", "seed": 0}
    (doubt,) = retokenized([cell | {"other_token_ids": "tasks"}, cell | {"other_token_ids": None}])
    assert "m / w" in doubt and "tasks" in doubt
