"""Equal terms: token budgets, development data, learning rates tried; the loop's variants."""

from __future__ import annotations

import pytest
import torch

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning.context import Context
from prunegrid.finetuning.training import loop, loss, run_facts, token_batches
from prunegrid.models import blocks, checkpoint
from prunegrid.stages import finetune
from tests.helpers import tiny

pytestmark = pytest.mark.model


@pytest.fixture
def place(tmp_path):
    """Return a folder with a pruned parent, and data with a dev split of other rows."""
    tiny.artifact(tmp_path / "parent", "opt", "2:4")
    tiny.held_out(tmp_path / "data")
    return tmp_path


def tune(place, name, strategy="full", parent="parent", **changes):
    """Return (record, story, folder) of one finetune step."""
    out = place / name
    out.mkdir()
    settings = tiny.finetune(strategy, **changes)
    parents = {"weights": place / parent, "data": place / "data"}
    record = finetune.run(settings, parents, out, tiny.job())
    tiny.finish(out, record["weights"])
    return record, file_io.read_json(out / "finetune.json"), out


def test_pads_are_counted(place):
    facts = [tune(place, f"b{n}", batch_size=n, epochs=1)[0]["train"] for n in (1, 6)]
    assert facts[0]["pad_tokens"] == 0 < facts[1]["pad_tokens"] < 0.2 * facts[1]["tokens"]
    assert facts[0]["tokens"] == facts[1]["tokens"]


def test_every_strategy_sees_the_same_tokens(place):
    facts = [tune(place, s, s, token_budget=700)[0]["train"] for s in ("full", "lora", "qlora")]
    assert facts[0]["tokens"] >= 700 and facts[0]["rows"] == 24
    assert len({(f["tokens"], f["steps"]) for f in facts}) == 1


def test_the_development_loss_is_the_mean_over_tokens_and_draws_nothing():
    model = tiny.model("llama").train().requires_grad_(False)
    rows = [token_batches.Example([3 + i, 9], [5 + j for j in range(1 + i % 4)]) for i in range(5)]
    state = torch.get_rng_state()
    settings = {"batch_size": 2, "loss_on": "response", "autocast": "float32"}
    found = loss.mean_loss(model, rows, settings, 0, "cpu")
    assert model.training and torch.equal(state, torch.get_rng_state())
    total = count = 0
    for row in rows:
        ids = torch.tensor([row.prompt + row.response])
        odds = model.eval()(input_ids=ids).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        total -= float(odds.gather(-1, torch.tensor(row.response)[:, None]).sum())
        count += len(row.response)
    assert found == pytest.approx(total / count, rel=1e-5)


def test_looking_at_development_rows_changes_no_weight(place):
    plain, _, _ = tune(place, "plain", "lora", dropout=0.1)
    seen, story, _ = tune(place, "seen", "lora", dropout=0.1, dev_split="dev", dev_rows=3)
    assert seen["weights"] == plain["weights"]
    assert [step for step, _ in story["dev_losses"]] == [0, 12]
    assert seen["train"]["dev_rows"] == 3 and seen["train"]["dev_rows_learned"] == 0


def test_the_best_weights_by_development_loss_are_saved(place):
    record, story, out = tune(place, "best", **tiny.OVERFITTED)
    train, curve = record["train"], dict(story["dev_losses"])
    assert list(curve) == list(range(13)) and train["steps"] == 12
    best = min((loss, step) for step, loss in curve.items() if step)
    assert (train["dev_loss"], train["kept_step"]) == best and train["kept_step"] < 6
    settings = tiny.finetune("full", **tiny.OVERFITTED)
    parents = {"weights": out, "data": place / "data"}
    context = Context(settings, parents, place, tiny.job())
    model = context.checkpoint.model
    again = loss.mean_loss(model, context.dev, settings, context.pad, "cpu")
    assert again == pytest.approx(best[0], rel=1e-5)


def test_training_stops_when_patience_ends(place):
    free, _, _ = tune(place, "free", **tiny.OVERFITTED)
    record, story, _ = tune(place, "patient", **tiny.OVERFITTED, patience=2)
    train = record["train"]
    assert train["steps"] == train["kept_step"] + 2 < 12 == free["train"]["steps"]
    assert len(story["dev_losses"]) == train["steps"] + 1
    assert record["weights"] == free["weights"]


def test_evaluations_that_do_not_improve_are_counted():
    facts = run_facts.TrainFacts(dev_losses=[[0, 1.0]])
    assert facts.best is None and facts.worse_for() == 0
    for step, (value, worse) in enumerate([(3.0, 0), (2.0, 0), (2.0, 1), (2.5, 2), (1.5, 0)], 1):
        facts.dev_losses.append([step, value])
        assert facts.worse_for() == worse
    assert facts.best == (5, 1.5)  # the untouched weights' 1.0 does not count


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_several_rates_end_in_the_weights_of_the_best_alone(place, strategy):
    rates = [1e-5, 1e-2, 3e-3]
    terms = {"dev_split": "dev", "dropout": 0.1 if strategy == "lora" else 0.0}
    alone = [tune(place, f"a{r}", strategy, learning_rate=r, **terms)[0] for r in rates]
    losses = [record["train"]["dev_loss"] for record in alone]
    best = min(range(3), key=losses.__getitem__)
    for name, listed in (("one", rates), ("other", rates[::-1])):
        record, story, _ = tune(place, name, strategy, learning_rates=listed, **terms)
        assert record["weights"] == alone[best]["weights"]
        assert record["train"]["learning_rate"] == rates[best]
        assert record["train"]["dev_loss"] == losses[best]
        tries = {entry["learning_rate"]: entry for entry in story["tries"]}
        assert [entry["learning_rate"] for entry in story["tries"]] == listed
        assert [tries[rate]["dev_loss"] for rate in rates] == losses
        assert len({entry["tokens"] for entry in story["tries"]}) == 1
        assert record["train"]["runs"] == 3


def test_a_rate_that_diverges_is_out_and_leaves_nothing_behind(place):
    terms = {"dev_split": "dev", "max_grad_norm": 1e9, "schedule": "constant"}
    alone, _, _ = tune(place, "alone", learning_rate=3e-3, **terms)
    record, story, _ = tune(place, "both", learning_rates=[1e9, 3e-3], **terms)
    assert record["weights"] == alone["weights"]
    first, second = story["tries"]
    assert "loss" in first["diverged"] and first["dev_loss"] is None
    assert second["diverged"] is None
    with pytest.raises(PrunegridError, match=r"every one .*1000000000\.0"):
        tune(place, "none", learning_rates=[1e9, 1e8], **terms)


def test_the_learning_rate_of_each_step_is_told(place):
    _, story, _ = tune(place, "out", learning_rate=0.5e-3, warmup_steps=2, max_steps=4)
    assert story["rates"] == pytest.approx([0.5e-3 * f for f in (1 / 3, 2 / 3, 1, 1 / 2)])
    assert len(story["losses"]) == 4 and story["dev_losses"] == [] and story["tries"] == []


def test_the_log_has_a_line_a_step_with_the_time_left(place, caplog):
    caplog.set_level("INFO")
    tune(place, "out", max_steps=2)
    lines = [line for line in caplog.messages if "step 1 of 2: loss" in line]
    assert len(lines) == 1 and "learning rate 0.0015" in lines[0] and "0:00:0" in lines[0]


def movement(place, folder):
    """Return the change of all prunable weights, one vector."""
    models = [checkpoint.read_model(f) for f in (place / "parent", folder)]
    before, after = (
        torch.cat([blocks.oriented(m).detach().flatten() for m in blocks.prunable(made).values()])
        for made in models
    )
    return after - before


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_bfloat16_by_autocast_is_the_plain_run_within_rounding(place, strategy):
    terms = {"schedule": "constant", "warmup_steps": 0, "max_steps": 5}
    _, plain, one = tune(place, "plain", strategy, **terms)
    _, cast, two = tune(place, "cast", strategy, autocast="bfloat16", **terms)
    assert plain["losses"] != cast["losses"]
    assert cast["losses"] == pytest.approx(plain["losses"], rel=1e-2)
    moved = [movement(place, folder) for folder in (one, two)]
    assert torch.cosine_similarity(*moved, dim=0) > 0.98
    assert moved[0].norm() > 0


@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_gradient_checkpointing_drops_what_the_plain_run_drops(place, strategy):
    terms = {"dropout": 0.3, "max_steps": 3, "accumulate": 2}
    made = [
        tune(place, f"out{on}", strategy, gradient_checkpointing=on, **terms)[0]["weights"]
        for on in (False, True)
    ]
    assert made[0] == made[1]


def test_gradient_checkpointing_computes_each_block_again(place, monkeypatch):
    passes = []
    real = loop.summed_loss

    def counted(model, *rest):
        if not passes:
            linear = next(iter(blocks.prunable(model).values()))
            linear.register_forward_pre_hook(lambda *_: passes.append(1))
        return real(model, *rest)

    monkeypatch.setattr(loop, "summed_loss", counted)
    for on in (False, True):
        passes.clear()
        tune(place, f"out{on}", max_steps=2, gradient_checkpointing=on)
        assert len(passes) == (4 if on else 2)
