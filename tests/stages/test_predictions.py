"""Predictions: by attested weights, stopped at EOS, in order, whatever the batches."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest
import torch

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.data import prompts
from prunegrid.evaluation import generation, predictions_file
from prunegrid.models import checkpoint
from prunegrid.stages import predictions
from tests.helpers import tiny
from tests.helpers.tuning import tune

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Return (weights, data) of a model that has learned to copy the first words and to stop."""
    base = tmp_path_factory.mktemp("learned")
    parent = tiny.artifact(base / "parent", "llama")
    tiny.data(base / "data", rows=96)
    _, out = tune(base, parent, "full", epochs=12, batch_size=16)
    return out, base / "data"


def predict(learned, out, **changes):
    """Return (record, rows) of one predictions step."""
    out.mkdir()
    weights, data = learned
    settings = tiny.generation(**changes)
    record = predictions.run(settings, {"weights": weights, "data": data}, out, tiny.job())
    return record, pq.read_table(out / "predictions.parquet").to_pylist()


def test_rows_are_those_of_the_split(learned, tmp_path):
    record, rows = predict(learned, tmp_path / "p", rows=17)
    source = pq.read_table(learned[1] / "test.parquet").to_pylist()[:17]
    assert [r["id"] for r in rows] == [r["id"] for r in source]
    assert [r["reference"] for r in rows] == [r["summary"] for r in source]
    assert list(rows[0]) == predictions_file.SCHEMA.names
    assert record["rows"] == 17
    assert record["weights"] == checkpoint.load(learned[0]).record
    assert record["generated_tokens"] == sum(r["prediction_tokens"] for r in rows)
    assert record["generate_seconds"] > 0


def test_it_has_learned_to_stop(learned, tmp_path):
    record, rows = predict(learned, tmp_path / "p", max_new_tokens=12)
    assert record["share_hit_limit"] < 0.2
    stopped = [r for r in rows if not r["hit_limit"]]
    # Three words and the EOS, whose text is left out.
    assert all(r["prediction_tokens"] == len(r["prediction"].split()) + 1 for r in stopped)
    assert not any("</s>" in r["prediction"] or "<pad>" in r["prediction"] for r in rows)


def test_batches_change_nothing(learned, tmp_path):
    made = {size: predict(learned, tmp_path / f"{size}", batch_size=size)[1] for size in (1, 7, 64)}
    assert made[1] == made[7] == made[64]


@pytest.mark.parametrize(("count", "size"), [(16, 8), (100, 8), (9, 50), (3, 1)])
def test_batches_have_few_pads_and_every_row_once(count, size):
    draw = torch.Generator().manual_seed(count)
    lengths = torch.randint(150, 401, (count,), generator=draw).tolist()
    made = generation.batches(lengths, size)
    assert sorted(sum(made, [])) == list(range(count))
    assert max(map(len, made)) <= size
    positions = sum(len(rows) * max(lengths[i] for i in rows) for rows in made)
    assert positions - sum(lengths) <= 0.1 * positions
    # The longest first, and no batch smaller than it must be.
    assert [i for rows in made for i in rows] == sorted(
        range(count), key=lambda i: (-lengths[i], i)
    )
    assert generation.batches([7] * count, size) == [
        list(range(start, min(start + size, count))) for start in range(0, count, size)
    ]


@pytest.mark.parametrize("kind", ["opt", "gpt2", "llama"])
def test_rows_that_leave_their_batch_change_no_text(kind):
    """Against transformers' own loop, which computes every row until the last one ends."""
    model, tokenizer = tiny.model(kind, seed=4), tiny.tokenizer()
    prompter = prompts.Prompter(tokenizer, tiny.prompt(), 64, "test")
    documents = [" ".join(tiny.WORDS[i : i + 3 + i % 4]) for i in range(12)]
    asked = [prompter.prompt(document, 10, "row") for document in documents]
    settings = tiny.generation(max_new_tokens=10, batch_size=12)
    inputs = generation.batch_inputs([p.ids for p in asked], 0, "cpu", "left")
    with torch.inference_mode():
        free = model.generate(
            **inputs, generation_config=generation.generation_settings(settings, [1], 0)
        )
    # Rows end at different steps where a frequent token is among those that stop them.
    counts = free[:, inputs["input_ids"].shape[1] :].flatten().bincount()
    stops = [1, int(counts[2:].argmax()) + 2]
    config = generation.generation_settings(settings, stops, 0)
    with torch.inference_mode():
        whole = model.generate(**inputs, generation_config=config)
    new = whole[:, inputs["input_ids"].shape[1] :].tolist()
    expected = [generation.until_stop(ids, set(stops)) for ids in new]
    lengths = {len(ids) for ids, _ in expected}
    assert len(lengths) > 2, "rows end together: choose another model"
    made, facts = generation.generate(
        model, prompter, asked, settings, stops=stops, pad=0, device="cpu"
    )
    assert [p.tokens for p in made] == [len(ids) + stopped for ids, stopped in expected]
    assert [p.text for p in made] == [prompter.decode(ids).strip() for ids, _ in expected]
    assert [p.hit_limit for p in made] == [not stopped for _, stopped in expected]
    tokens = sum(len(p.ids) for p in asked) + sum(p.tokens for p in made)
    assert facts["computed_tokens"] == tokens + facts["pad_tokens"]
    # Pads of prompts alone.
    assert facts["pad_tokens"] <= 0.1 * inputs["input_ids"].numel()


def test_pads_of_rows_that_stay_in_their_batch_are_counted(learned, tmp_path):
    sampled = {"do_sample": True, "temperature": 2.0, "max_new_tokens": 8, "batch_size": 24}
    record, rows = predict(learned, tmp_path / "a", **sampled)
    assert record["pad_tokens"] > 0
    tokens = record["prompt_tokens"] + record["generated_tokens"]
    assert record["computed_tokens"] == tokens + record["pad_tokens"]


@pytest.mark.parametrize("kind", ["opt", "gpt2", "llama"])
def test_left_padding_is_no_padding(kind, tmp_path):
    model, tokenizer = tiny.model(kind), tiny.tokenizer()
    prompter = prompts.Prompter(tokenizer, tiny.prompt(), 64, "test")
    documents = [" ".join(tiny.WORDS[i : i + 2 + 3 * i]) for i in range(6)]
    asked = [prompter.prompt(d, 8, "row") for d in documents]
    settings = tiny.generation(max_new_tokens=8)
    made = [
        generation.generate(
            model, prompter, asked, settings | {"batch_size": size}, stops=[1], pad=0, device="cpu"
        )[0]
        for size in (1, 6)
    ]
    assert made[0] == made[1]


def test_the_limit_is_noticed(learned, tmp_path):
    record, rows = predict(learned, tmp_path / "p", max_new_tokens=2)
    assert record["share_hit_limit"] == 1.0
    assert all(r["prediction_tokens"] == 2 for r in rows)


def test_dense_weights_in_place_of_pruned_fail(tmp_path):
    pruned = tiny.artifact(tmp_path / "pruned", "llama", "2:4")
    dense = tiny.artifact(tmp_path / "dense", "llama")
    tiny.data(tmp_path / "data")
    shutil.copy(dense / "model.safetensors", pruned / "model.safetensors")
    with pytest.raises(AttestationError, match="sha256"):
        predict((pruned, tmp_path / "data"), tmp_path / "p")
    assert list((tmp_path / "p").iterdir()) == []


def test_nothing_is_generated_before_the_check(tmp_path, monkeypatch):
    pruned = tiny.artifact(tmp_path / "pruned", "llama", "2:4")
    model = tiny.model("llama", seed=9)
    model.save_pretrained(pruned)
    monkeypatch.setattr(generation, "generate", lambda *a, **k: pytest.fail("it generated"))
    with pytest.raises(AttestationError):
        predict((pruned, tiny.data(tmp_path / "data")), tmp_path / "p")


def test_cut_by_context_is_counted(learned, tmp_path):
    tiny.data(tmp_path / "data", rows=5, words=90)
    record, rows = predict((learned[0], tmp_path / "data"), tmp_path / "p", max_new_tokens=10)
    assert record["contexts_cut"] == 5 and all(r["cut"] for r in rows)
    assert max(r["prompt_tokens"] for r in rows) <= 54


def test_legacy_cuts(learned, tmp_path):
    _, rows = predict(learned, tmp_path / "p", reference_tokens=2, stop=["w1", "w2"])
    assert all(len(r["reference"].split()) == 2 for r in rows)
    assert not any("w1" in r["prediction"] or "w2" in r["prediction"] for r in rows)


def test_sampling_is_seeded(learned, tmp_path):
    sampled = {"do_sample": True, "temperature": 2.0, "max_new_tokens": 8}
    one = predict(learned, tmp_path / "a", **sampled)[1]
    two = predict(learned, tmp_path / "b", **sampled)[1]
    greedy = predict(learned, tmp_path / "c", max_new_tokens=8)[1]
    assert one == two != greedy


def test_beams_find_the_likeliest_text(tmp_path):
    """With as many beams as tokens two steps are searched in full: compared with brute force."""
    folder = tiny.artifact(tmp_path / "parent", "llama")
    loaded = checkpoint.load(folder)
    prompter = prompts.Prompter(loaded.tokenizer, tiny.prompt(), 64, "test")
    asked = [prompter.prompt(f"w{i} w{2 * i} w{39 - i}", 6, "row") for i in range(20)]
    vocabulary = loaded.model.config.vocab_size

    def written(beams):
        settings = tiny.generation(num_beams=beams, max_new_tokens=2)
        texts, _ = generation.generate(
            loaded.model, prompter, asked, settings, stops=[1], pad=0, device="cpu"
        )
        return [one.text for one in texts]

    best = []
    for prompt in asked:
        rows = torch.tensor([[*prompt.ids, token] for token in range(vocabulary)])
        with torch.inference_mode():
            logits = loaded.model(rows).logits.log_softmax(-1)
        first, second = logits[0, -2], logits[:, -1]
        # A text is scored by its mean token: one that stops at once has a single one.
        scores = (first[:, None] + second) / 2
        scores[1] = float("-inf")
        assert scores.max() > first[1], "the likeliest text is empty: choose another model"
        one, two = divmod(int(scores.argmax()), vocabulary)
        best.append(prompter.decode([one] if two == 1 else [one, two]).strip())
    assert written(vocabulary) == best
    assert written(1) != best


def test_empty_document(learned, tmp_path):
    tiny.data(tmp_path / "data", rows=3)
    table = pq.read_table(tmp_path / "data" / "test.parquet").to_pylist()
    table[1]["document"] = "  "
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(table), tmp_path / "data" / "test.parquet")
    with pytest.raises(PrunegridError, match="document of d1 is empty"):
        predict((learned[0], tmp_path / "data"), tmp_path / "p")


def test_the_models_own_generation_config_has_no_say(learned, tmp_path):
    loaded = checkpoint.load(learned[0])
    loaded.model.generation_config.repetition_penalty = 50.0
    loaded.model.generation_config.max_new_tokens = 1
    prompter = prompts.Prompter(loaded.tokenizer, tiny.prompt(), 64, "test")
    asked = [prompter.prompt("w1 w2 w3 w4", 6, "row")]
    found, _ = generation.generate(
        loaded.model, prompter, asked, tiny.generation(), stops=[1], pad=0, device="cpu"
    )
    assert found[0].tokens > 1
    assert loaded.model.generation_config.repetition_penalty in (None, 1.0)


def test_until_stop():
    assert generation.until_stop([5, 6, 1, 0, 0], {1}) == ([5, 6], True)
    assert generation.until_stop([5, 6], {1}) == ([5, 6], False)
    assert generation.cut_at(" a ### End b", ["### End"]) == "a"
    batch = generation.batch_inputs([[4, 5], [6]], 0, "cpu", "left")
    assert torch.equal(batch["input_ids"], torch.tensor([[4, 5], [0, 6]]))
    batch = generation.batch_inputs([[4, 5], [6]], 0, "cpu", "right")
    assert torch.equal(batch["input_ids"], torch.tensor([[4, 5], [6, 0]]))
    assert torch.equal(batch["attention_mask"], torch.tensor([[1, 1], [1, 0]]))
