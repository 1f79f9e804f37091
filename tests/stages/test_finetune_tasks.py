"""Tuning and quantizing of encoders and encoder-decoders."""

import json
import shutil

import pandas
import pytest
import torch
from transformers import BertTokenizer

from prunegrid.finetuning.training.objectives import Masking
from prunegrid.finetuning.training.token_batches import Example
from prunegrid.models import blocks, checkpoint, open_checkpoint, split_checkpoint
from prunegrid.stages import classification, finetune, transform
from tests.helpers import tiny, tiny_translators
from tests.helpers.tiny_tasks import (
    CLASSES,
    ENCODERS,
    FORMS,
    encoder,
    hidden_losses,
    require_zeros_kept,
    run,
)
from tests.helpers.tuning import REFIT, calibration, change

pytestmark = pytest.mark.model


def dev_loss(model, tokenizer, folder):
    """Return the mean loss of the hidden tokens of the rows `test`, each alone."""
    masking = Masking.of(tokenizer, 260, "response", tiny.job().seed("masking"), "t")
    examples = []
    for row in pandas.read_parquet(folder / "test.parquet").to_dict("records"):
        prompt = tokenizer(row["document"])["input_ids"][:-1]
        response = tokenizer(row["summary"], add_special_tokens=False)["input_ids"]
        examples.append(Example(prompt, [*response, tokenizer.sep_token_id]))
    losses = hidden_losses(model, masking.hide(examples, "development rows"))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_an_encoder_learns_hidden_tokens_and_keeps_its_zeros(tmp_path, name, strategy):
    place = encoder(tmp_path / "w", name)
    record, out = run(tmp_path, place, strategy)
    facts = record["train"]
    assert facts["dev_loss"] < facts["first_dev_loss"]
    loaded = checkpoint.load(place)
    expected = dev_loss(loaded.model, loaded.tokenizer, tmp_path / "data")
    assert facts["first_dev_loss"] == pytest.approx(expected, rel=1e-4)
    tuned = checkpoint.load(out)
    expected = dev_loss(tuned.model, tuned.tokenizer, tmp_path / "data")
    assert facts["dev_loss"] == pytest.approx(expected, rel=1e-4)
    assert record["weights"]["nm_valid"] and facts["zeros_filled"] == 0
    require_zeros_kept(place, out)
    if strategy == "lora":
        assert facts["merge_loss_before"] == pytest.approx(facts["merge_loss_after"], rel=1e-4)


@pytest.mark.parametrize("strategy", ["lora", "qlora", "norms"])
def test_an_encoder_decoder_learns_responses_and_keeps_its_zeros(tmp_path, strategy):
    place = tiny_translators.weights(tmp_path / "w", "t5", "2:4")
    changes = {"rank": 8} if strategy == "norms" else {}
    record, out = run(tmp_path, place, strategy, **changes)
    facts = record["train"]
    assert facts["dev_loss"] < facts["first_dev_loss"] and facts["zeros_filled"] == 0
    require_zeros_kept(place, out)


def test_an_adapter_beside_an_encoder_is_read_again(tmp_path):
    place = encoder(tmp_path / "w")
    record, out = run(tmp_path, place, "lora", adapter="unmerged")
    assert checkpoint.is_in_parts(out) and record["weights"]["adapter"] == "unmerged"
    loaded = open_checkpoint.load(out)
    expected = dev_loss(loaded.model, loaded.tokenizer, tmp_path / "data")
    assert record["train"]["dev_loss"] == pytest.approx(expected, rel=1e-4)


def test_full_is_the_same_as_seq2seq(tmp_path):
    place = tiny_translators.weights(tmp_path / "w", "m2m100", "2:4")
    (first, _), (second, _) = (run(tmp_path, place, name) for name in ("full", "seq2seq"))
    assert first["weights"]["sha256"] == second["weights"]["sha256"]


def test_windows_of_a_text_hold_the_special_tokens(tmp_path):
    place = encoder(tmp_path / "w")
    changes = {"window": 16, "column": "document", "dev_split": None, "evaluate_every": None}
    record, out = run(tmp_path, place, "full", **changes)
    loaded = checkpoint.load(place)
    texts = pandas.read_parquet(tmp_path / "data/train.parquet")["document"]
    text = "\n\n".join(texts)
    tokens = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
    story = json.loads((out / "finetune.json").read_text())
    windows = len(tokens) // 14
    # Two of the 16 are special; 15% of the others are learned.
    assert story["tokens"] == 2 * 16 * windows and story["scored_tokens"] == 2 * 2 * windows


def test_a_tokenizer_without_an_end_ends_with_its_separator(tmp_path):
    """BERT's own has [CLS], [SEP] and [MASK], and neither a BOS nor an EOS."""
    place = encoder(tmp_path / "w")
    letters = [chr(97 + i) for i in range(26)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(10)), *letters]
    words += [f"##{one}" for one in [*map(str, range(10)), *letters]]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizer(str(tmp_path / "vocab.txt"))
    assert tokenizer.eos_token_id is None
    other = tmp_path / "bert"
    other.mkdir()
    model = checkpoint.load(place).model
    tiny.finish(other, checkpoint.write_plain(model, tokenizer, other, "2:4").record)
    record, _ = run(tmp_path, other, "full")
    facts = record["train"]
    assert facts["dev_loss"] < facts["first_dev_loss"]
    loaded = checkpoint.load(other)
    expected = dev_loss(loaded.model, loaded.tokenizer, tmp_path / "data")
    assert facts["first_dev_loss"] == pytest.approx(expected, rel=1e-4)


def test_a_run_that_was_killed_hides_the_same_tokens(tmp_path):
    """The tokens of a step depend on the step alone: so do the bytes after a restart."""
    place = encoder(tmp_path / "w")
    (first, _) = run(tmp_path, place, "full")
    shutil.rmtree(tmp_path / "out-full")
    (again, _) = run(tmp_path, place, "full")
    assert first["weights"]["sha256"] == again["weights"]["sha256"]


@pytest.mark.parametrize("precision", ["int8", "nf4"])
@pytest.mark.parametrize("kind", ["t5", "m2m100", "encoder", "masked-lm"])
def test_encoders_and_encoder_decoders_are_quantized(tmp_path, kind, precision):
    if kind in ("t5", "m2m100"):
        place = tiny_translators.weights(tmp_path / "w", kind, "2:4")
    else:
        place = encoder(tmp_path / "w", task=kind)
    record, out = run(tmp_path, place, "quantize", transform, precision=precision)
    assert record["weights"]["precision"] == precision
    require_zeros_kept(place, out)
    plain, packed = checkpoint.load(place), open_checkpoint.load(out)
    linears = blocks.prunable(plain.model)
    for name, _, weight in packed.weights():
        blocks.oriented(linears[name]).copy_(weight)
    window = torch.arange(10, 22)[None]
    decoder = {"decoder_input_ids": window} if kind in ("t5", "m2m100") else {}
    with torch.no_grad():
        found, expected = (m.model(input_ids=window, **decoder)[0] for m in (packed, plain))
    assert torch.allclose(found, expected, atol=1e-4)


def test_what_transformers_never_packs_stays_a_float(tmp_path):
    place = tiny_translators.weights(tmp_path / "w", "t5", "2:4")
    _, out = run(tmp_path, place, "quantize", transform, precision="nf4")
    before = blocks.prunable(checkpoint.load(place).model)
    whole = {n: w for n, w, _ in open_checkpoint.load(out).weights()}
    floats = {name for name in whole if torch.equal(whole[name], blocks.oriented(before[name]))}
    assert floats == {name for name in whole if name.endswith(".wo")} != set()
    assert split_checkpoint.MASKS not in {path.name for path in out.iterdir()}


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ("lora", {}),
        ("lora", {"adapter": "unmerged"}),
        ("qlora", {}),
        ("quantize", {"precision": "int8"}),
    ],
)
def test_classes_are_asked_of_what_was_tuned_or_quantized(tmp_path, strategy, changes):
    place = encoder(tmp_path / "w")
    stage = transform if strategy == "quantize" else finetune
    made, out = run(tmp_path, place, strategy, stage, **changes)
    scores = tmp_path / "scores"
    scores.mkdir()
    parents = {"weights": out, "data": tmp_path / "data"}
    found = classification.run(CLASSES, parents, scores, tiny.job())
    parents["weights"] = place
    (tmp_path / "dense").mkdir()
    before = classification.run(CLASSES, parents, tmp_path / "dense", tiny.job())
    assert found["weights"]["sha256"] == made["weights"]["sha256"]
    assert found["answers_sha256"] != before["answers_sha256"]


@pytest.mark.parametrize("kind", ["encoder", "masked-lm", "t5"])
def test_any_model_is_refitted_to_the_dense_one(tmp_path, kind):
    if kind == "t5":
        dense, pruned = (tiny_translators.weights(tmp_path / p, "t5", q) for p, q in FORMS)
    else:
        dense, pruned = (encoder(tmp_path / p, "bert", q, kind) for p, q in FORMS)
    (tmp_path / "data").mkdir()
    parents = {"dense": dense, "calibration": calibration(tmp_path / "windows")}
    record, out = change(tmp_path, pruned, parents=parents, **REFIT)
    require_zeros_kept(pruned, out)
    assert record["transform"]["error_after"] < record["transform"]["error_before"]
