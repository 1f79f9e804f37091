"""Positions that a model does not count from 0: texts and losses are those of a row alone."""

import pytest
import torch
import torch.nn.functional as F

from prunegrid.data.prompts import Prompt
from prunegrid.data.sources import tiny as small
from prunegrid.evaluation import generation
from prunegrid.finetuning.training import loss, token_batches
from prunegrid.models.forward import first_position, max_positions
from tests.helpers import tiny

pytestmark = pytest.mark.model

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "max_position_embeddings": 48, "is_decoder": True}
# {model type: where it begins to count}.
KINDS = {"roberta": 2, "camembert": 2, "xlm-roberta": 2, "bert": 0, "rembert": 0}
PROMPTS = [list(range(10, 10 + n)) for n in (3, 9, 4, 9, 6)]


class Texts:
    """A prompter that decodes tokens to their numbers."""

    def decode(self, ids):
        return " ".join(map(str, ids))


@pytest.fixture(params=KINDS)
def model(request):
    config = {**SIZES, "model_type": request.param}
    made, _ = small.build({"config": config, "seed": 1}, "causal-lm", torch.float32, "t")
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for name, parameter in made.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 1.0 if "position" in name else 0.2)
    assert first_position(made) == KINDS[request.param]
    assert max_positions(made) == 48 - KINDS[request.param]
    return made


def alone(model, prompt, count):
    """Return the tokens that are the likeliest one after the other, without pads or cache."""
    ids = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize("size", [1, 4])
def test_texts_are_those_of_a_row_alone(model, size, beams):
    rows = [Prompt(ids, False, False) for ids in PROMPTS]
    settings = tiny.generation(max_new_tokens=5, batch_size=size, num_beams=beams)
    made, _ = generation.generate(
        model, Texts(), rows, settings, stops=[2], pad=1, device="cpu"
    )  # fmt: skip
    single = tiny.generation(max_new_tokens=5, batch_size=1, num_beams=beams)
    for row, prediction in zip(rows, made, strict=True):
        if beams == 1:
            expected = alone(model, row.ids, 5)
            expected = expected[: expected.index(2)] if 2 in expected else expected
            assert prediction.text == " ".join(map(str, expected))
        else:
            (one,), _ = generation.generate(
                model, Texts(), [row], single, stops=[2], pad=1, device="cpu"
            )
            assert prediction.text == one.text


def test_losses_are_those_of_a_row_alone(model):
    rows = [token_batches.Example(ids, [20, 21, 22, 2]) for ids in PROMPTS]
    total = 0.0
    for row in rows:
        ids = torch.tensor([row.prompt + row.response])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, len(row.prompt) - 1 : -1]
        total += float(F.cross_entropy(logits, torch.tensor(row.response), reduction="sum"))
    settings = {"batch_size": 5, "loss_on": "response", "autocast": "float32"}
    found = loss.mean_loss(model, rows, settings, 1, "cpu")
    assert found == pytest.approx(total / (4 * len(rows)), rel=1e-4)
