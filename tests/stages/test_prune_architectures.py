"""Encoders and encoder-decoders through the stages, from a source to pruned weights on disk."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, BertConfig, BertModel

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import model_folder
from prunegrid.models import checkpoint, loading, weights_record
from prunegrid.stages import calibration, model
from tests.helpers.architectures import build
from tests.helpers.pruning_jobs import SAMPLES, WANDA, Job, record_of, run_prune, write_artifact

pytestmark = pytest.mark.model

RANDOM = {
    "seq2seq-lm": {
        **{"model_type": "t5", "d_model": 16, "d_kv": 4, "d_ff": 32, "num_heads": 4},
        **{"num_layers": 2, "n_positions": 64},
    },
    "masked-lm": {
        **{"model_type": "roberta", "hidden_size": 16, "intermediate_size": 32},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64},
    },
}
CLASSES = {"seq2seq-lm": AutoModelForSeq2SeqLM, "masked-lm": AutoModelForMaskedLM}


@pytest.mark.parametrize("propagation", ["sequential", "dense"])
@pytest.mark.parametrize("task", RANDOM)
def test_from_a_source_to_pruned_weights(tmp_path, task, propagation):
    source = {"kind": "random", "config": RANDOM[task], "seed": 1}
    settings = {"source": source, "dtype": "float32", "task": task}
    parents = {
        "model": write_artifact(
            tmp_path / "model", lambda out: model.run(settings, {}, out, Job(tmp_path))
        )
    }

    def fill(out):
        texts = [f"document {i} says " + "something else and " * 4 for i in range(6)]
        table = pa.table({"id": [str(i) for i in range(6)], "text": texts})
        pq.write_table(table, out / "train.parquet")
        return {}

    parents["data"] = write_artifact(tmp_path / "data", fill)
    calibrated = write_artifact(
        tmp_path / "calibration", lambda out: calibration.run(SAMPLES, parents, out, Job(tmp_path))
    )
    pruned = run_prune(
        tmp_path / "pruned", {**WANDA, "propagation": propagation}, parents["model"], calibrated
    )
    loaded, found = CLASSES[task].from_pretrained(pruned, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert type(loaded) is type(checkpoint.load(pruned).model)
    assert record_of(pruned)["weights"]["sparsity_prunable"] == 0.5
    assert record_of(pruned)["weights"]["nm_valid"] is True
    assert record_of(parents["model"])["weights"]["prunable_zeros"] == 0


def load(place, task):
    return model_folder.load(place, [p.name for p in place.iterdir()], task, torch.float32, "here")


@pytest.fixture
def no_tokenizer(monkeypatch):
    monkeypatch.setattr(model_folder, "read_tokenizer", lambda *_: None)


@pytest.mark.parametrize("saved_by", ["its authors", "this program"])
def test_a_t5_whose_head_is_no_embedding_stays_so(tmp_path, no_tokenizer, saved_by):
    made = build("t5-v1.1")
    made.save_pretrained(tmp_path)
    if saved_by == "its authors":
        path = tmp_path / "config.json"
        config = json.loads(path.read_text())
        del config["scale_decoder_outputs"]
        path.write_text(json.dumps({**config, "tie_word_embeddings": False}))
    loaded, _, _ = load(tmp_path, "seq2seq-lm")
    assert torch.equal(loaded.lm_head.weight, made.lm_head.weight)
    assert torch.equal(loaded.shared.weight, made.shared.weight)
    assert loaded.encoder.embed_tokens.weight is loaded.shared.weight
    assert loaded.config.scale_decoder_outputs is False


def test_a_model_is_loaded_as_the_task_says_and_refused_as_another(tmp_path, no_tokenizer):
    build("bert").save_pretrained(tmp_path)
    assert type(load(tmp_path, "masked-lm")[0]).__name__ == "BertForMaskedLM"
    assert type(load(tmp_path, "encoder")[0]).__name__ == "BertModel"
    for task, title in (("causal-lm", "a causal"), ("seq2seq-lm", "an encoder-decoder")):
        with pytest.raises(PrunegridError, match=f"is a BertForMaskedLM; expected {title} languag"):
            load(tmp_path, task)


def test_every_kind_names_a_class_of_transformers():
    assert loading.TASKS == ("causal-lm", "seq2seq-lm", "masked-lm", "encoder")
    for kind in loading.KINDS:
        assert callable(loading.auto_class(kind).from_pretrained)


def test_an_encoder_whose_blocks_cannot_be_found_has_no_counts(tmp_path):
    config = BertConfig(
        vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=32,
    )  # fmt: skip
    encoder = BertModel(config).eval()
    record = checkpoint.write_plain(encoder, None, tmp_path, pattern=None).record
    assert record["prunable_parameters"] == 2 * (4 * 16 * 16 + 2 * 16 * 32)
    encoder.other = nn.ModuleList([nn.Sequential(nn.Linear(4, 4))])
    encoder._no_split_modules = []
    tensors = dict(encoder.state_dict())
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    record = weights_record.measure_plain(encoder, tensors, None, "none", size, "here")
    assert record["prunable_parameters"] is record["sparsity_prunable"] is None
    assert record["parameters"] > 0
