"""What a model learns from a row: tokens that are hidden from a masked language model."""

import pytest
import torch

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import tiny as small
from prunegrid.finetuning.training import loss, objectives, token_batches
from prunegrid.finetuning.training.objectives import Masking, as_one_sequence
from prunegrid.finetuning.training.token_batches import Example
from tests.helpers.tiny_tasks import hidden_losses

ELECTRA = {"model_type": "electra", "embedding_size": 16, "hidden_size": 32}
ELECTRA |= {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
ROBERTA = {"model_type": "roberta", "hidden_size": 32, "intermediate_size": 64}
ROBERTA |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 40}
FNET = {"model_type": "fnet", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
CONFIGS = {"electra": ELECTRA, "roberta": ROBERTA, "fnet": FNET}
SPECIAL = frozenset((0, 1, 2, 3))
MASKING = Masking(mask=3, special=SPECIAL, vocabulary=1000, whole=True, seed=5)


def rows(count, length, seed=0):
    draw = torch.Generator().manual_seed(seed)
    body = torch.randint(4, 1000, (count, length), generator=draw).tolist()
    return [Example([0, *line[: length // 2]], [*line[length // 2 :], 2]) for line in body]


def test_of_each_row_a_share_is_hidden_and_shown_as_bert_does():
    made = rows(200, 100)
    hidden = [row.hidden for row in MASKING.hide(made, "a")]
    assert {len(places) for places in hidden} == {15}
    tokens = [row.prompt + row.response for row in made]
    shown = [
        (t, line[place])
        for places, line in zip(hidden, tokens, strict=True)
        for place, t in places.items()
    ]
    count = len(shown)
    as_mask = sum(t == MASKING.mask for t, _ in shown) / count
    as_it_is = sum(t == own for t, own in shown) / count
    # Three standard deviations of 3000 draws.
    assert abs(as_mask - 0.8) < 0.022 and abs(as_it_is - 0.1) < 0.017
    assert not any(own in SPECIAL for _, own in shown)


def test_of_a_short_row_one_token_is_hidden_and_never_the_first():
    places = {next(iter(MASKING.hide([Example([9, 8], [])], str(n))[0].hidden)) for n in range(20)}
    assert places == {1}


def test_tokens_of_prompts_stay_unless_all_are_learned():
    only = Masking(3, SPECIAL, 1000, whole=False, seed=5)
    for row in only.hide(rows(50, 20), "a"):
        assert min(row.hidden) >= len(row.prompt)
    assert any(min(r.hidden) < len(r.prompt) for r in MASKING.hide(rows(50, 20), "a"))


def test_a_draw_is_known_by_its_name():
    made = rows(20, 40)
    first, again, other = (MASKING.hide(made, name) for name in ("a", "a", "b"))
    assert first == again != other
    assert Masking(3, SPECIAL, 1000, True, seed=6).hide(made, "a") != first


def test_how_batches_are_cut_changes_no_draw():
    made = rows(8, 30)
    whole = MASKING.hide(made, "a")
    assert MASKING.hide(made[:3], "a") == whole[:3]


def test_a_row_that_hides_nothing_is_refused():
    only = Masking(3, SPECIAL, 1000, whole=False, seed=5)
    with pytest.raises(PrunegridError, match="row 1 .*loss_on: all"):
        only.require_tokens([Example([5], [6]), Example([5, 6, 7], [2])], "t")


@pytest.mark.model
def test_a_tokenizer_without_a_mask_token_is_refused():
    _, tokenizer = small.build({"config": ELECTRA}, "masked-lm", torch.float32, "t")
    assert Masking.of(tokenizer, 260, "all", 1, "t").mask == tokenizer.mask_token_id
    tokenizer.mask_token = None
    with pytest.raises(PrunegridError, match="no mask token"):
        Masking.of(tokenizer, 260, "all", 1, "t")


@pytest.mark.model
@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_of_a_batch_is_that_of_the_hidden_tokens_of_each_row_alone(name):
    model, _ = small.build({"config": CONFIGS[name]}, "masked-lm", torch.float32, "t")
    masking = Masking(3, SPECIAL, 260, whole=False, seed=1)
    made = [Example([0, *range(10, 10 + n)], [*range(40, 41 + 3 * n), 2]) for n in range(1, 6)]
    made = masking.hide(made, "a")
    losses = hidden_losses(model, made)
    expected, count = sum(losses), len(losses)
    inputs, labels = token_batches.collate(made, 1, "response", "cpu")
    assert token_batches.scored(labels) == count
    forward = model.forward
    with torch.no_grad(), as_one_sequence(model, "masked-lm", eos=2, pad=1):
        found = float(loss.summed_loss(model, inputs, labels))
        mean = loss.mean_loss(
            model, made, {"batch_size": 2, "loss_on": "response", "autocast": "float32"}, 1, "cpu"
        )
    assert model.forward == forward and "forward" not in vars(model)
    assert found == pytest.approx(expected, rel=1e-4)
    assert mean == pytest.approx(expected / count, rel=1e-4)


def test_a_forward_of_its_own_comes_back():
    class Model(torch.nn.Module):
        pass

    model = Model()
    model.forward = own = lambda *_: None
    with as_one_sequence(model, "causal-lm", eos=2, pad=1):
        assert model.forward is own
    assert model.forward is own


def test_shares_are_berts():
    assert (objectives.SHARE, objectives.AS_MASK, objectives.AS_RANDOM) == (0.15, 0.8, 0.1)
