"""What does not fit a model is refused before its weights are read."""

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.stages import classification, efficiency, perplexity, predictions
from tests.helpers import tiny, tiny_encoders
from tests.helpers.tiny_tasks import CLASSES, run, without_weights

pytestmark = pytest.mark.model


@pytest.mark.parametrize(
    ("kind", "strategy", "changes", "words"),
    [
        ("encoder", "full", {}, "expected loss_on: label.*masked-lm"),
        ("encoder", "lora", {"loss_on": "all"}, "expected loss_on: label"),
        ("encoder", "seq2seq", {}, "seq2seq needs"),
        ("t5", "lora", {"loss_on": "label"}, "labels are learned by encoders"),
        ("masked-lm", "seq2seq", {}, "seq2seq needs an encoder-decoder.*lora"),
        ("masked-lm", "full", {"processes": 2}, "processes is 2"),
        ("t5", "lora", {"loss_on": "all"}, "learns responses alone"),
        ("t5", "full", {"window": 8, "column": "document"}, "learns responses alone"),
    ],
)
def test_what_does_not_fit_is_refused_before_weights_are_read(
    tmp_path, kind, strategy, changes, words
):
    place = without_weights(tmp_path / "w", kind)
    with pytest.raises(PrunegridError, match=words):
        run(tmp_path, place, strategy, **changes)


@pytest.mark.parametrize("stage", [perplexity, predictions, efficiency])
@pytest.mark.parametrize("kind", ["t5", "masked-lm", "encoder"])
def test_measures_of_decoders_refuse_others_before_weights_are_read(tmp_path, kind, stage):
    place = without_weights(tmp_path / "w", kind)
    settings = tiny.generation(column="document", protocol="nonoverlap", window=8)
    parents = {"weights": place, "data": tiny.data(tmp_path / "data")}
    with pytest.raises(PrunegridError, match="test: .* needs a causal .*would fit"):
        stage.run(settings, parents, tmp_path, tiny.job())


def test_classes_refuse_a_decoder(tmp_path):
    place = tiny.artifact(tmp_path / "w", "llama")
    data = tiny.data(tmp_path / "data")
    with pytest.raises(PrunegridError, match="needs a model .task: encoder or masked-lm."):
        parents = {"weights": place, "data": data}
        classification.run(CLASSES, parents, tmp_path, tiny.job())


def test_a_model_that_wants_a_length_of_its_own_is_refused_before_it_trains(tmp_path):
    config = {"model_type": "reformer", "hidden_size": 64, "num_attention_heads": 4}
    config |= {"axial_pos_embds_dim": [32, 32], "axial_pos_shape": [8, 16]}
    config |= {"max_position_embeddings": 128, "num_hidden_layers": 4, "is_decoder": False}
    place = tiny_encoders.weights(tmp_path / "w", config=config, task="masked-lm")
    with pytest.raises(PrunegridError, match="ReformerForMaskedLM cannot be trained .*axial"):
        run(tmp_path, place, "full")
