"""A tokenizer with more tokens than its model has embeddings."""

from __future__ import annotations

import pytest
import torch

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources.tiny import byte_tokenizer
from prunegrid.models import bounded_tokenizer
from tests.helpers import tiny

ROWS = 260  # 256 bytes and four special tokens


def larger(*added):
    tokenizer = byte_tokenizer(max_length=None, add_bos=False, encoder=False)
    tokenizer.add_tokens(list(added))
    return tokenizer


def test_a_tokenizer_that_fits_is_returned_as_it_is():
    tokenizer = larger("<one>")
    kind = type(tokenizer)
    assert bounded_tokenizer.bounded(tokenizer, ROWS + 1, "here") is tokenizer
    assert bounded_tokenizer.bounded(tokenizer, None, "here") is tokenizer
    assert type(tokenizer) is kind and bounded_tokenizer.beyond(tokenizer, ROWS + 1) == {}


def test_texts_without_such_tokens_have_the_ids_of_before():
    plain, bounded = larger("<one>", "<two>"), larger("<one>", "<two>")
    bounded = bounded_tokenizer.bounded(bounded, ROWS, "here")
    assert bounded_tokenizer.beyond(bounded, ROWS) == {260: "<one>", 261: "<two>"}
    for text in ("some words <three>", ["a", "b c"], ""):
        assert bounded(text)["input_ids"] == plain(text)["input_ids"]
    assert bounded.encode("a b") == plain.encode("a b")
    assert bounded.decode(bounded.encode("a b")) == "a b"


@pytest.mark.parametrize("text", ["a <two> b", ["fine", "not <two>"]])
def test_a_text_with_one_is_refused_by_its_name(text):
    bounded = bounded_tokenizer.bounded(larger("<one>", "<two>"), ROWS, "here")
    for act in (bounded, lambda t: bounded(t, return_tensors="pt", padding=True)):
        with pytest.raises(PrunegridError, match="'<two>' .261.") as error:
            act(text)
        assert error.value.where == "here" and "260 embeddings" in str(error.value)
    with pytest.raises(PrunegridError, match="261"):
        bounded.encode("a <two> b")
    turns = [{"role": "user", "content": "a <one>"}]
    bounded.chat_template = "{{ messages[0]['content'] }}"
    with pytest.raises(PrunegridError, match="'<one>'"):
        bounded(bounded.apply_chat_template(turns, tokenize=False))


def test_saved_it_is_the_same_tokenizer(tmp_path):
    for name, act in (
        ("plain", lambda t: t),
        ("bounded", lambda t: bounded_tokenizer.bounded(t, ROWS, "h")),
    ):
        act(larger("<one>")).save_pretrained(tmp_path / name)
    for path in (tmp_path / "plain").iterdir():
        assert path.read_bytes() == (tmp_path / "bounded" / path.name).read_bytes()


@pytest.mark.model
def test_a_folder_with_both_is_read_bounded(tmp_path):
    from prunegrid.models import checkpoint

    model, tokenizer = tiny.model("llama"), tiny.tokenizer()
    tokenizer.add_tokens([f"new{i}" for i in range(tiny.VOCABULARY - len(tokenizer) + 1)])
    folder = tmp_path / "m"
    folder.mkdir()
    loaded = checkpoint.write_plain(model, tokenizer, folder, None)
    last = tokenizer.convert_ids_to_tokens(tiny.VOCABULARY)
    ids = torch.tensor([loaded.tokenizer("w1 w2")["input_ids"]])
    assert loaded.model(ids).logits.shape[-1] == tiny.VOCABULARY
    with pytest.raises(PrunegridError, match=last):
        loaded.tokenizer(f"w1 {last}")
