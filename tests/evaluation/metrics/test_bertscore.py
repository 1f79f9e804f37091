"""BERTScore on a tiny random encoder: values, empty texts, long texts, bad models."""

from __future__ import annotations

import json
import random

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation import metric_loader
from prunegrid.evaluation.scoring import score

pytestmark = pytest.mark.model

WORDS = [
    "the",
    "act",
    "pays",
    "farmers",
    "and",
    "taxes",
    "fall",
    "soon",
    "a",
    "bill",
    "of",
    "rights",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
POSITIONS = 24
# ε times the terms that are summed on the way: in each of 3 layers 4 × 16 of the attention, 24
# positions, 16 and 32 of the MLP, and 16 for each norm; then 16 of a product of states.
ROUNDING = (3 * (4 * 16 + 24 + 16 + 32 + 2 * 16) + 16) * torch.finfo(torch.float32).eps


def save_tokenizer(folder, with_special: bool = True) -> None:
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if with_special:
        inner.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    named = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=inner, **named).save_pretrained(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    # A path with "t5" in it: bert_score would read the model as a T5.
    folder = tmp_path_factory.mktemp("t5") / "encoder"
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=POSITIONS,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    named = json.loads((folder / "tokenizer_config.json").read_text())
    assert named.get("model_max_length", 1e30) > 1e6  # no limit of its own: bert_score overflows
    return folder


def frame(pairs) -> pd.DataFrame:
    rows = pd.DataFrame(pairs, columns=["prediction", "reference"])
    return rows.assign(id=[f"e{number}" for number in range(len(rows))])


def run(pairs, folder, **settings):
    settings = {"layer": 2, **settings}
    return score(frame(pairs), {"bertscore": settings}, {"bertscore": folder})


def texts(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randrange(1, 12))) for _ in range(count)]


def by_hand(prediction: str, reference: str, folder, layer: int) -> float:
    """BERTScore F1 by its formula, from the whole model's hidden states."""
    model = BertModel.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    sides = []
    for text in (prediction, reference):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True)
        sides.append(torch.nn.functional.normalize(states.hidden_states[layer][0], dim=-1))
    similar = sides[0] @ sides[1].T
    precision = similar.max(1).values[1:-1].mean()
    recall = similar.max(0).values[1:-1].mean()
    return float(2 * precision * recall / (precision + recall))


def test_f1_is_that_of_the_formula_and_of_identical_texts_one(encoder):
    pairs = list(zip(texts(5), texts(5, seed=1), strict=True)) + [("the act pays",) * 2]
    found = run(pairs, encoder).examples["bertscore"]
    for value, (prediction, reference) in zip(found, pairs, strict=True):
        assert value == pytest.approx(by_hand(prediction, reference, encoder, 2), abs=ROUNDING)
    assert found.iloc[-1] == pytest.approx(1.0, abs=ROUNDING)
    assert found.iloc[:-1].max() < 1.0


def test_the_layer_matters_and_must_exist(encoder):
    pair = [("taxes fall", "the act pays")]
    values = {run(pair, encoder, layer=layer).summary["bertscore"]["mean"] for layer in (1, 2, 3)}
    assert len(values) == 3
    for layer in (0, 4, True, 1.5):
        with pytest.raises(PrunegridError, match="expected 1 to 3"):
            run(pair, encoder, layer=layer)
    with pytest.raises(PrunegridError, match="layer is not set"):
        run(pair, encoder, layer=None)


def test_empty_predictions_are_counted_apart(encoder):
    pairs = [("the act", "the act"), ("", "the act"), (" \n", "taxes fall")]
    found = run(pairs, encoder)
    assert found.examples["bertscore"].isna().tolist() == [False, True, True]
    assert found.summary["bertscore"]["n"] == 1
    assert found.summary["bertscore"]["mean"] == pytest.approx(1.0, abs=ROUNDING)


def test_all_predictions_empty_give_no_mean(encoder):
    found = run([("", "the act"), (" ", "taxes")], encoder)
    assert found.summary["bertscore"] == {"mean": None, "n": 0, "higher_is_better": True}


def test_a_prediction_of_one_word_is_scored(encoder):
    assert run([("act", "the act pays")], encoder).summary["bertscore"]["n"] == 1


def test_scores_do_not_depend_on_the_order_of_the_rows(encoder):
    pairs = list(zip(texts(20), texts(20, seed=1), strict=True))
    straight = run(pairs, encoder, batch_size=3).examples["bertscore"].to_list()
    order = random.Random(5).sample(range(20), 20)
    shuffled = run([pairs[number] for number in order], encoder, batch_size=3)
    assert shuffled.examples["bertscore"].to_list() == [straight[number] for number in order]
    whole = run(pairs, encoder, batch_size=64).examples["bertscore"].to_list()
    assert whole == pytest.approx(straight, abs=ROUNDING)


def test_batches_are_made_by_length_whatever_the_hash_seed(encoder, monkeypatch):
    metric = metric_loader.load("bertscore", {"layer": 2, "batch_size": 1})
    code, batches = metric.code, []
    plain = code.Encoder.embed
    monkeypatch.setattr(
        code.Encoder, "embed", lambda self, rows: batches.append(rows) or plain(self, rows)
    )
    pairs = list(zip(texts(30), texts(30, seed=1), strict=True))
    metric.compute(frame(pairs), encoder, "cpu")
    sides = zip(batches[::2], batches[1::2], strict=True)
    sizes = [max(len(rows[0]) for rows in pair) for pair in sides]
    assert sizes == sorted(sizes)
    assert len(sizes) == len(set(pairs))


def test_long_texts_are_cut_at_the_models_positions_and_counted(encoder):
    long = " ".join(["the act pays"] * 30)
    found = run([(long, "the act pays"), ("taxes", long)], encoder)
    details = found.facts["bertscore"]["details"]
    assert details["token_limit"] == POSITIONS
    assert (details["cut_predictions"], details["cut_references"]) == (1, 1)
    assert found.summary["bertscore"]["n"] == 2


def test_the_hash_names_layer_and_weights_and_not_the_path(encoder):
    facts = run([("act", "act")], encoder).facts["bertscore"]
    assert "_L2_no-idf_" in facts["details"]["hash"]
    assert facts["details"]["model_sha256"][:16] in facts["details"]["hash"]
    assert str(encoder) not in json.dumps(facts)
    assert {"bert-score", "torch", "transformers"} <= facts["versions"].keys()


def test_a_model_without_all_of_its_weights_is_refused(encoder, tmp_path):
    config = json.loads((encoder / "config.json").read_text()) | {"num_hidden_layers": 4}
    for path in encoder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PrunegridError, match="lacks weights"):
        run([("act", "act")], tmp_path)


def test_a_tokenizer_without_both_special_tokens_is_refused(encoder, tmp_path):
    for path in encoder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    save_tokenizer(tmp_path, with_special=False)
    with pytest.raises(PrunegridError, match="one token before and one behind"):
        run([("act", "act")], tmp_path)


@pytest.mark.parametrize("batch_size", [0, 1.5, True])
def test_a_bad_batch_size_is_refused(encoder, batch_size):
    with pytest.raises(PrunegridError, match="batch_size is"):
        run([("act", "act")], encoder, batch_size=batch_size)
