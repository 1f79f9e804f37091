"""Encoder-decoders: tuned as one sequence, translating in batches, scored as decoded text."""

import json
import re

import pandas
import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from prunegrid.common.errors import PrunegridError
from prunegrid.config.finetune_step import Finetune
from prunegrid.data.sources import tiny as small
from prunegrid.evaluation import scoring, translation
from prunegrid.finetuning.training import loss, token_batches
from prunegrid.finetuning.training.objectives import as_one_sequence
from prunegrid.models import checkpoint
from prunegrid.stages import finetune, translations
from tests.helpers import tiny
from tests.helpers.tiny_translators import CONFIGS, M2M, build, weights

pytestmark = pytest.mark.model

PLAIN = tiny.prompt(template="{document}")


def settings(**changes):
    return tiny.generation(prompt=PLAIN, languages=None) | changes


def translate(folder, place, data, **changes):
    folder.mkdir()
    parents = {"weights": place, "data": data}
    record = translations.run(settings(**changes), parents, folder, tiny.job())
    return record, pandas.read_parquet(folder / "predictions.parquet")


@pytest.mark.parametrize("name", CONFIGS)
def test_one_sequence_has_the_loss_of_the_models_own_labels(name):
    model, tokenizer = build(name)
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    rows = [
        token_batches.Example([5, 6, 7, eos], [20, 21, eos]),
        token_batches.Example([9, eos], [30, 31, 32, 33, eos]),
        token_batches.Example([11, 12, 13, 14, 15, eos], [eos]),
    ]
    width = max(len(row.prompt) for row in rows), max(len(row.response) for row in rows)
    ids, labels = torch.full((3, width[0]), pad), torch.full((3, width[1]), -100)
    for line, row in enumerate(rows):
        ids[line, : len(row.prompt)] = torch.tensor(row.prompt)
        labels[line, : len(row.response)] = torch.tensor(row.response)
    with torch.no_grad():
        own = model(input_ids=ids, attention_mask=(ids != pad).long(), labels=labels)
        count = sum(len(row.response) for row in rows)
        inputs, joined = token_batches.collate(rows, pad, "response", "cpu")
        forward = model.forward
        with as_one_sequence(model, "seq2seq-lm", eos, pad):
            found = loss.summed_loss(model, inputs, joined)
    assert float(found) == pytest.approx(float(own.loss) * count, rel=1e-5)
    assert model.forward == forward and "forward" not in vars(model)


@pytest.mark.parametrize("name", CONFIGS)
def test_tuning_learns_and_keeps_zeros(tmp_path, name):
    place = weights(tmp_path / "w", name, "2:4")
    (tmp_path / "out").mkdir()
    changes = {"prompt": PLAIN, "epochs": 3, "learning_rate": 1e-2}
    record = finetune.run(
        tiny.finetune("seq2seq", **changes),
        {"weights": place, "data": tiny.data(tmp_path / "data")},
        tmp_path / "out",
        tiny.job(),
    )
    facts = record["train"]
    assert facts["last_loss"] < facts["first_loss"] and facts["steps"] == 18
    assert record["weights"]["sparsity_prunable"] == 0.5 and record["weights"]["nm_valid"]
    assert facts["zeros_promised"] == "all" and facts["zeros_filled"] == 0
    story = json.loads((tmp_path / "out/finetune.json").read_text())
    # What is counted is what is learned: the responses, their EOS and what they are made of.
    assert story["scored_tokens"] < story["tokens"]


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("llama", {}, "seq2seq needs an encoder-decoder"),
        ("m2m100", {"loss_on": "all"}, "learns responses alone"),
    ],
)
def test_what_cannot_be_tuned(tmp_path, kind, changes, words):
    place = tmp_path / "w"
    place = tiny.artifact(place, kind) if kind == "llama" else weights(place)
    parents = {"weights": place, "data": tiny.data(tmp_path / "data")}
    prompt = tiny.prompt() if kind == "llama" else PLAIN
    wanted = tiny.finetune("seq2seq", prompt=prompt, **changes)
    with pytest.raises(PrunegridError, match=words):
        finetune.run(wanted, parents, tmp_path, tiny.job())


def test_it_has_one_process():
    with pytest.raises(ValueError, match="seq2seq has one process"):
        Finetune(strategy="seq2seq", processes=2)


@pytest.mark.parametrize("name", CONFIGS)
def test_batches_say_what_single_sources_do(tmp_path, name):
    place, data = weights(tmp_path / "w", name), tiny.data(tmp_path / "data", rows=6)
    record, found = translate(tmp_path / "a", place, data, batch_size=6)
    _, alone = translate(tmp_path / "b", place, data, batch_size=1)
    assert found["prediction"].tolist() == alone["prediction"].tolist()
    loaded = checkpoint.load(place)
    for _, row in found.iterrows():
        document = next(r for r in _rows(data) if r["id"] == row["id"])["document"]
        ids = [*loaded.tokenizer(document)["input_ids"], loaded.tokenizer.eos_token_id]
        made = loaded.model.generate(
            torch.tensor([ids]), max_new_tokens=6, do_sample=False, num_beams=1, pad_token_id=1
        )
        text = loaded.tokenizer.decode(made[0], skip_special_tokens=True).strip()
        if row["hit_limit"]:  # which may halve a character
            text = re.sub("\ufffd{1,3}$", "", text).rstrip()
        assert row["prediction"] == text and row["prompt_tokens"] == len(ids)
    assert record["rows"] == 6 and record["generated_tokens"] == found["prediction_tokens"].sum()
    assert record["weights"]["sha256"] == loaded.record["sha256"]


def _rows(data):
    return pandas.read_parquet(data / "test.parquet").to_dict("records")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"languages": ["en", "de"]}, "has no tokens for languages.*prompt"),
        ({"stop": ["."]}, "generation.stop is"),
        ({"reference_tokens": 4}, "generation.reference_tokens is 4"),
    ],
)
def test_settings_that_do_not_fit(tmp_path, changes, words):
    place, data = weights(tmp_path / "w"), tiny.data(tmp_path / "data", rows=2)
    with pytest.raises(PrunegridError, match=words):
        translate(tmp_path / "out", place, data, **changes)


def test_a_decoder_does_not_translate(tmp_path):
    place, data = tiny.artifact(tmp_path / "w", "llama"), tiny.data(tmp_path / "data", rows=2)
    with pytest.raises(PrunegridError, match="needs an encoder-decoder"):
        translate(tmp_path / "out", place, data)


@pytest.fixture(scope="module")
def multilingual(tmp_path_factory):
    """M2M100's own tokenizer, over a small vocabulary of pieces made here."""
    import sentencepiece
    from transformers import M2M100Tokenizer

    folder = tmp_path_factory.mktemp("pieces")
    lines = [
        " ".join(f"word{i * 7 % 23} thing{i % 11}" for i in range(n, n + 9)) for n in range(60)
    ]
    (folder / "text").write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "sentencepiece.bpe"), vocab_size=50,
        model_type="bpe", minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(str(folder / "sentencepiece.bpe.model"))
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    names += [pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())]
    vocabulary = {name: number for number, name in enumerate(names)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return M2M100Tokenizer(
        vocab_file=str(folder / "vocab.json"),
        spm_file=str(folder / "sentencepiece.bpe.model"),
    )


def test_a_multilingual_model_begins_with_the_targets_token(tmp_path, multilingual):
    config = {**M2M, "vocab_size": 400}
    model, _ = small.build({"config": config, "seed": 0}, "seq2seq-lm", torch.float32, "t")
    model.config.decoder_start_token_id = 2
    place = tmp_path / "w"
    place.mkdir()
    record = checkpoint.write_plain(model, multilingual, place, None).record
    tiny.finish(place, record)
    loaded = checkpoint.load(place)  # the tokenizer is saved and read as any other
    wanted = settings(languages=["en", "de"])
    sources = translation.Sources(loaded.tokenizer, wanted, 64, "t")
    source = sources.source("word7 thing3")
    assert source.ids[0] == multilingual.get_lang_id("en") and source.ids[-1] == 2
    assert sources.forced == multilingual.get_lang_id("de")
    _, found = translate(
        tmp_path / "out", place, tiny.data(tmp_path / "data", rows=3), languages=["en", "de"]
    )
    # The language's token is no part of what is scored.
    assert found["prediction_tokens"].max() <= 6 - 1 + 1
    assert not found["prediction"].str.contains("__").any()
    with pytest.raises(PrunegridError, match="has no language 'dee'.*'de'"):
        translation.Sources(loaded.tokenizer, settings(languages=["en", "dee"]), 64, "t")


def test_long_sources_are_cut_and_keep_their_end():
    _, tokenizer = build("m2m100")
    sources = translation.Sources(tokenizer, settings(), 16, "t")
    whole, cut = sources.source("short"), sources.source("a text that is longer than that")
    assert not whole.cut and whole.ids[-1] == tokenizer.eos_token_id
    assert cut.cut_context and len(cut.ids) == 16 and cut.ids[-1] == tokenizer.eos_token_id
    # The end that a tokenizer of bytes does not mark takes a place, and no character is halved.
    exact, halved = sources.source("a" * 16), sources.source("a" * 14 + "\u00e9")
    assert exact.cut_context and len(exact.ids) == 16
    assert tokenizer.decode(halved.ids, skip_special_tokens=True) == "a" * 14
    assert not sources.source("a" * 15).cut_context


TEXTS = pandas.DataFrame(
    {
        "id": ["a", "b", "c"],
        "reference": [
            "the cat sat on the mat .",
            "two dogs ran away .",
            "it rained all day long .",
        ],
        "prediction": ["the cat sat on the mat .", "two dogs ran home .", ""],
    }
)


def test_scores_are_sacrebleus_own_with_their_signature():
    found = scoring.score(TEXTS, {"bleu": {}, "chrf": {}})
    said, true = TEXTS["prediction"].tolist(), [TEXTS["reference"].tolist()]
    bleu, chrf = BLEU(), CHRF()
    assert found.summary["bleu"]["mean"] == pytest.approx(bleu.corpus_score(said, true).score)
    assert found.summary["chrf_corpus"]["mean"] == pytest.approx(
        chrf.corpus_score(said, true).score
    )
    single = [chrf.sentence_score(p, [r]).score for p, r in zip(said, true[0], strict=True)]
    assert found.examples["chrf"].tolist() == pytest.approx(single)
    assert single[0] == pytest.approx(100) and single[2] == 0
    assert found.summary["bleu"]["higher_is_better"] and found.summary["bleu"]["corpus"]
    for name, prefix in (("bleu", "nrefs:1|"), ("chrf", "nrefs:1|")):
        assert found.facts[name]["details"]["signature"].startswith(prefix)
        assert "version:2.6.0" in found.facts[name]["details"]["signature"]
        assert found.facts[name]["versions"]["sacrebleu"] == "2.6.0"
    details = found.facts["bleu"]["details"]
    assert 0 <= details["low"] < found.summary["bleu"]["mean"] < details["high"] <= 100.01


def test_a_perfect_translation_is_100_and_token_ids_are_refused():
    perfect = scoring.score(TEXTS.assign(prediction=TEXTS["reference"]), {"bleu": {}, "chrf": {}})
    assert perfect.summary["bleu"]["mean"] == pytest.approx(100)
    assert perfect.summary["chrf"]["mean"] == pytest.approx(100)
    with pytest.raises(PrunegridError, match="not token ids"):
        scoring.score(TEXTS.assign(prediction=[[1, 2], [3], [4]]), {"bleu": {}})
