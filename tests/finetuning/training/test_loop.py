"""Equal terms: token budgets, development data, learning rates tried; the loop's variants."""

from __future__ import annotations

import math

import pytest
import torch

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning.context import Context
from prunegrid.finetuning.training import divergence, loop, loss, run_facts, token_batches
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


def examples(count=10, seed=0):
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 9, (count, 2), generator=draw).tolist()
    return [token_batches.Example([7] * a, [9] * b) for a, b in sizes]


def like_aclsum(count, seed=0):
    """Return rows whose lengths spread as those of paper abstracts and their summaries do."""
    draw = torch.Generator().manual_seed(seed)
    sizes = torch.randint(150, 401, (count,), generator=draw).tolist()
    return [token_batches.Example([i] * (size - 30), [i] * 30) for i, size in enumerate(sizes)]


def order_of(rows, size, accumulate, epochs, seed=3):
    """Return the micro-batches of each step."""
    settings = {"batch_size": size, "accumulate": accumulate, "token_budget": None}
    settings |= {"epochs": epochs, "max_steps": None}
    steps = token_batches.plan(rows, settings, seed)
    return list(token_batches.batches(rows, settings, steps, seed))


@pytest.mark.parametrize(("count", "size", "accumulate"), [(100, 4, 1), (101, 2, 4), (7, 8, 2)])
def test_every_row_is_learned_once_an_epoch(count, size, accumulate):
    rows, per_step = like_aclsum(count), size * accumulate
    steps = order_of(rows, size, accumulate, epochs=3)
    each = -(-count // per_step)
    assert len(steps) == 3 * each
    epochs = [steps[i : i + each] for i in range(0, len(steps), each)]
    for epoch in epochs:
        seen = [row.prompt[0] for micro in epoch for batch in micro for row in batch]
        assert sorted(seen) == list(range(count))
        # Rows a step stay as configured, and only the last one may have fewer.
        sizes = [sum(map(len, micro)) for micro in epoch]
        assert sizes == [per_step] * (each - 1) + [count - per_step * (each - 1)]
    assert count < 10 or epochs[0] != epochs[1]


def test_the_rows_of_a_step_do_not_depend_on_its_micro_batches():
    rows = like_aclsum(90)
    made = [order_of(rows, size, 8 // size, epochs=2) for size in (1, 2, 8)]
    flat = [[[row for batch in micro for row in batch] for micro in steps] for steps in made]
    assert flat[0] == flat[1] == flat[2]


def pads(batches):
    """Return the share of pads among the positions of batches."""
    widths = [len(rows) * max(map(len, rows)) for rows in batches]
    return 1 - sum(len(row) for rows in batches for row in rows) / sum(widths)


def test_rows_of_like_length_share_a_step_and_steps_are_in_no_order():
    rows = like_aclsum(320)
    for size in (2, 4, 8):
        micro = [batch for step in order_of(rows, size, 1, epochs=1) for batch in step]
        plain = [rows[i : i + size] for i in range(0, len(rows), size)]
        assert pads(micro) < 0.1 < pads(plain)
        longest = [max(map(len, batch)) for batch in micro]
        rising = sum(one < two for one, two in zip(longest, longest[1:], strict=False))
        assert 0.3 < rising / len(longest) < 0.7


def test_pads_are_counted(place):
    facts = [tune(place, f"b{n}", batch_size=n, epochs=1)[0]["train"] for n in (1, 6)]
    assert facts[0]["pad_tokens"] == 0 < facts[1]["pad_tokens"] < 0.2 * facts[1]["tokens"]
    assert facts[0]["tokens"] == facts[1]["tokens"]


@pytest.mark.parametrize("budget", [1, 30, 89, 90, 91, 400])
def test_a_budget_ends_at_the_step_that_reaches_it(budget):
    settings = {"batch_size": 2, "accumulate": 2, "token_budget": budget}
    rows = examples()
    steps = token_batches.plan(rows, settings, seed=3)
    seen = [
        sum(len(row) for micro in step for row in micro)
        for step in token_batches.batches(rows, settings, steps, seed=3)
    ]
    assert sum(seen[:-1]) < budget <= sum(seen) and len(seen) == steps


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
    with pytest.raises(PrunegridError, match=r"every one of the learning rates \[1000000000\.0"):
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


def checked(losses, vocabulary=50000):
    """Feed a run's losses to the guard as the loop does."""
    watch = divergence.Guard(vocabulary, 1e-3, "here")
    for step in range(1, len(losses) + 1):
        watch.check(losses[:step])


RISES = {
    "to the loss of a unigram model": [2.5] * 5 + [2.5 + 0.5 * i for i in range(10)] + [7.4] * 35,
    "at once": [3.0] + [8.0, 9.0, 7.1] * 10,
    "slowly": [2.0 + 0.1 * i for i in range(80)],
}


@pytest.mark.parametrize("name", RISES)
def test_a_loss_that_rises_far_and_stays_is_divergence(name):
    losses = RISES[name]
    with pytest.raises(divergence.Diverged, match="30 losses in a row that rose to") as caught:
        checked(losses)
    assert "chance 10.82" in str(caught.value)


def test_a_loss_far_above_chance_is_divergence():
    with pytest.raises(divergence.Diverged, match="step 5: a mean loss of .* over 5 steps"):
        checked([3.0] + [40.0] * 5)
    with pytest.raises(divergence.Diverged, match="step 2: loss nan"):
        checked([3.0, math.nan])
    with pytest.raises(divergence.Diverged, match="gradient norm inf"):
        divergence.Guard(100, 1e-3, "here").check([1.0], math.inf)


SOUND = {
    "does not fall": [4.0] * 200,
    "falls slowly": [4.0 - 0.001 * i for i in range(200)],
    "a spike that passes": [2.5] * 40 + [9.0] * 25 + [2.5] * 100,
    "rises a little and stays": [2.5] * 10 + [3.4] * 200,
    "of a badly pruned model, above chance": [14.0] * 30 + [9.0] * 100,
    "of a model that knows it all": [0.02] * 20 + [0.2] * 100,
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_run_is_not_stopped(name):
    checked(SOUND[name])


@pytest.mark.parametrize(("level", "noise"), [(1.0, 0.4), (3.0, 0.4), (6.0, 0.4), (9.0, 0.2)])
def test_noisy_batches_are_not_divergence(level, noise):
    """Batches of one row, of which the first happens to be the easiest of 20."""
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        drawn = noise * torch.randn(300, generator=draw)
        losses = (level * torch.exp(drawn)).tolist()
        checked([min(losses[:20]), *losses])
