"""The stage `classification`: transformers' own classifier, of which the head alone is tuned."""

import warnings
from types import SimpleNamespace

import numpy
import pandas
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import matthews_corrcoef
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    RobertaForMaskedLM,
)

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.evaluation import classification_head
from prunegrid.models import attestation, checkpoint
from prunegrid.stages import classification
from tests.helpers import architectures, benchmark_rows
from tests.helpers.rounding import close
from tests.helpers.tiny_encoders import CONFIG, weights

pytestmark = pytest.mark.model

ENCODERS = ["minilm", "roberta", "deberta-v3", "deberta-v2-xlarge"]
MASKED = {"bert": BertForMaskedLM, "roberta": RobertaForMaskedLM}
ITEMS = [{"text": "{{sentence}}", "pair": None, "label": "{{label}}"}]
SETTINGS = {
    "train_split": "train",
    "train_rows": None,
    "split": "validation",
    "rows": None,
    "items": ITEMS,
    "max_tokens": 32,
    "epochs": 8,
    "batch_size": 8,
    "learning_rate": 1e-2,
    "metrics": ["acc", "mcc"],
    "seed": 0,
}


def rows(count, start=0):
    """Sentences of one word, again and again, which is their class."""
    return [
        {"sentence": ("no " if i % 2 else "yes ") * (1 + i * 7 % 5), "label": i % 2}
        for i in range(start, start + count)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes") / "data"
    return benchmark_rows.artifact(folder, train=rows(40), validation=rows(20, 40))


def ask(folder, weights, data, **changes):
    folder.mkdir()
    job = SimpleNamespace(
        device="cpu", where="test", seed=lambda purpose: 5, compute_dtype="float32"
    )
    record = classification.run(
        {**SETTINGS, **changes}, {"weights": weights, "data": data}, folder, job
    )
    return record


@pytest.mark.parametrize("name", ENCODERS)
def test_it_is_transformers_own_classifier(name):
    """The same logits as the library's model with the same encoder and the same head."""
    check_classifier(architectures.build(name))


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_language_model_gets_the_head_of_its_architecture(name):
    """BERT's classifier reads a pooler, of which a masked language model has none: a new one."""
    config = AutoConfig.for_model(**CONFIG | {"model_type": name})
    model = MASKED[name](config).eval()
    check_classifier(model)
    check_classifier(AutoModel.from_config(config).eval())  # with a pooler, that only BERT's reads
    first, again, other = (classification_head.Head(model, 2, seed) for seed in (1, 1, 2))
    assert first.sha256() == again.sha256() != other.sha256()
    pooled = {key: t for key, t in first.tensors().items() if "pooler" in key}
    assert len(pooled) == (2 if name == "bert" else 0)
    for key, tensor in pooled.items():
        spread = config.initializer_range if key.endswith("weight") else 0.0
        assert float(tensor.std()) == pytest.approx(spread, rel=0.2)


def check_classifier(encoder):
    head = classification_head.Head(encoder, 3, seed=1).eval()
    config = type(encoder.config).from_dict({**encoder.config.to_dict(), "num_labels": 3})
    own = AutoModelForSequenceClassification.from_config(config).eval()
    base = getattr(own, own.base_model_prefix)
    base.load_state_dict(encoder.base_model.state_dict(), strict=False)
    missing = own.load_state_dict(head.tensors(), strict=False)
    assert not missing.unexpected_keys
    for length in (3, 9):
        ids = torch.randint(2, 64, (2, length), generator=torch.Generator().manual_seed(length))
        with torch.no_grad():
            states = encoder.base_model(input_ids=ids).last_hidden_state
            assert torch.allclose(head(states[:, :1]), own(input_ids=ids).logits, atol=1e-5)


def test_padding_changes_no_state(tmp_path):
    loaded = checkpoint.load(weights(tmp_path / "w"))
    head = classification_head.Head(loaded.model, 2, seed=0)
    encoded, cut = classification_head.encode(
        loaded.tokenizer, [("a", None), ("a much longer text", "b"), ("x" * 99, None)], 32
    )
    assert cut == 1 and len(encoded[2]["input_ids"]) == 32
    # Each linear's terms, and as many positions for each layer's softmax.
    linears = [m for m in loaded.model.modules() if isinstance(m, torch.nn.Linear)]
    terms = sum(linear.in_features for linear in linears) + 32 * len(linears)
    together, _ = classification_head.first_states(loaded.model, loaded.tokenizer, encoded, 3, head)
    for number, one in enumerate(encoded):
        alone, _ = classification_head.first_states(loaded.model, loaded.tokenizer, [one], 3, head)
        assert close(together[number], alone[0], terms)


def test_a_head_learns_and_the_encoder_stays(tmp_path, data):
    place = weights(tmp_path / "w", "2:4")
    before = checkpoint.file_weights_sha256(place)
    record = ask(tmp_path / "out", place, data)
    assert record["summary"]["acc"]["mean"] > 0.9
    assert record["train"]["last_loss"] < record["train"]["first_loss"]
    assert record["train"]["steps"] == 8 * 5 and record["train"]["items"] == 40
    assert checkpoint.file_weights_sha256(place) == before == record["weights"]["sha256"]
    assert record["weights"]["sparsity_prunable"] == 0.5
    samples = pandas.read_parquet(tmp_path / "out/samples.parquet")
    scores = pandas.read_parquet(tmp_path / "out/scores.parquet")
    right = samples["label"] == samples["predicted"]
    assert scores["value"].tolist() == right.astype(float).tolist()
    assert record["summary"]["acc"]["mean"] == pytest.approx(right.mean())
    assert record["summary"]["mcc"]["mean"] == pytest.approx(
        matthews_corrcoef(samples["label"], samples["predicted"])
    )
    assert {k: record["summary"]["acc"][k] for k in ("n", "chance", "majority", "items")} == {
        "n": 20, "chance": 0.5, "majority": 0.5, "items": True,
    }  # fmt: skip
    kept = load_file(tmp_path / "out/head.safetensors")
    assert attestation.weights_sha256(kept) == record["head_sha256"]


def test_a_masked_language_model_is_asked_too(tmp_path, data):
    record = ask(tmp_path / "out", weights(tmp_path / "w", task="masked-lm"), data)
    assert record["summary"]["acc"]["mean"] > 0.9
    kept = load_file(tmp_path / "out/head.safetensors")
    assert kept["bert.pooler.dense.weight"].any()


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_correlation_is_matthews(classes):
    draw = numpy.random.default_rng(classes)
    true, said = draw.integers(0, classes, size=(2, 7, 30))
    said[0], said[1] = true[0], 0
    found = classification.correlation(true, said, classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        known = [matthews_corrcoef(*pair) for pair in zip(true, said, strict=True)]
    assert found == pytest.approx(known) and found[0] == pytest.approx(1) and found[1] == 0


def test_the_same_again_and_other_weights_other_answers(tmp_path, data):
    place = weights(tmp_path / "w")
    first, again = (ask(tmp_path / name, place, data) for name in ("a", "b"))
    for fact in ("head_sha256", "answers_sha256", "items_sha256", "summary"):
        assert first[fact] == again[fact]
    other = ask(tmp_path / "c", weights(tmp_path / "w2", seed=1), data)
    assert other["head_sha256"] != first["head_sha256"]
    assert other["answers_sha256"] != first["answers_sha256"]
    assert other["items_sha256"] == first["items_sha256"]


def test_a_row_may_make_several_items_and_pairs(tmp_path):
    mrpc = benchmark_rows.mrpc(12)
    place = benchmark_rows.artifact(tmp_path / "d", train=mrpc, validation=benchmark_rows.mrpc(6))
    items = [
        {
            "text": "{{sentence1}}",
            "pair": "{{sentence2}}",
            "label": "{{'same' if label else 'no'}}",
        },
        {"text": "{{sentence2}}", "pair": "{{sentence1}}", "label": "swapped"},
    ]
    record = ask(tmp_path / "out", weights(tmp_path / "w"), place, items=items, rows=5)
    assert record["rows"] == 10 and record["labels"] == ["no", "same", "swapped"]
    samples = pandas.read_parquet(tmp_path / "out/samples.parquet")
    assert samples["id"].tolist()[:3] == ["validation:0.0", "validation:0.1", "validation:1.0"]
    assert samples["pair"][0] == benchmark_rows.mrpc(6)[0]["sentence2"]


def test_weights_that_are_not_the_recorded_ones_are_not_asked(tmp_path, data):
    place = weights(tmp_path / "w")
    model = checkpoint.load(place, attest=False).model
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    checkpoint.save_model(model, place)
    with pytest.raises(AttestationError):
        ask(tmp_path / "out", place, data)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"split": "test"}, "has no split 'test'"),
        ({"items": [{**ITEMS[0], "text": "{{sentense}}"}]}, "row train:0 does not fill a template"),
        ({"items": [{**ITEMS[0], "text": "{{"}]}, "a template is malformed"),
        ({"items": [{**ITEMS[0], "text": "{{''}}"}]}, "the text of row train:0 is empty"),
        ({"items": [{**ITEMS[0], "label": "all"}]}, "all learned items have the label 'all'"),
        ({"train_rows": 1}, "has the label '1'.*that are learned"),
    ],
)
def test_faults_of_the_data(tmp_path, data, changes, words):
    with pytest.raises(PrunegridError, match=words):
        ask(tmp_path / "out", weights(tmp_path / "w"), data, **changes)


def test_a_head_that_reads_more_than_the_first_token_is_refused(tmp_path):
    loaded = checkpoint.load(weights(tmp_path / "w"))
    head = classification_head.Head(loaded.model, 2, seed=0)
    head.forward = lambda states: states.mean(1)[:, :2]
    encoded, _ = classification_head.encode(loaded.tokenizer, [("some text", None)], 32)
    with pytest.raises(PrunegridError, match="reads more than the first token"):
        classification_head.first_states(loaded.model, loaded.tokenizer, encoded, 3, head)


def test_states_that_are_not_finite_are_refused(tmp_path):
    loaded = checkpoint.load(weights(tmp_path / "w"))
    head = classification_head.Head(loaded.model, 2, seed=0)
    with torch.no_grad():
        loaded.model.encoder.layer[1].output.LayerNorm.weight.fill_(float("inf"))
    encoded, _ = classification_head.encode(loaded.tokenizer, [("some text", None)], 32)
    with pytest.raises(PrunegridError, match="states are not finite"):
        classification_head.first_states(loaded.model, loaded.tokenizer, encoded, 3, head)
