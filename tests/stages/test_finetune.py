"""Fine-tuning: the loss falls, non-zeros change, zeros stay, same seed means same bytes."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.finetuning.training import (
    learning_rates,
    loop,
    loss,
    sparsity,
    token_batches,
)
from prunegrid.models import (
    attestation,
    blocks,
    checkpoint,
    masked_lora,
    open_checkpoint,
    zero_masks,
)
from tests.helpers import tiny
from tests.helpers.tuning import tune, weights

pytestmark = pytest.mark.model

PATTERNS = (None, "unstructured", "2:4")


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_learns_and_keeps_zeros(tmp_path, kind, pattern, strategy):
    parent = tiny.artifact(tmp_path / "parent", kind, pattern)
    rate = {"full": 3e-3, "lora": 2e-2}[strategy]
    record, out = tune(tmp_path, parent, strategy, learning_rate=rate, epochs=4)
    assert record["train"]["last_loss"] < 0.85 * record["train"]["first_loss"]
    before, after = weights(parent), weights(out)
    for name in before:
        zeros = before[name] == 0
        if pattern is not None:
            assert torch.equal(zeros, after[name] == 0), name
        moved = (before[name] != after[name])[~zeros].float().mean()
        assert moved > 0.9, name
    facts = record["weights"]
    assert facts["pattern"] == pattern
    assert facts["nm_valid"] is (True if pattern == "2:4" else None)
    assert facts["sparsity_prunable"] == (0.5 if pattern else 0.0)
    assert facts["adapter"] == ("merged" if strategy == "lora" else "none")
    assert checkpoint.load(out).record == facts


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_forgotten_mask_is_seen(tmp_path, monkeypatch, strategy):
    """The planted fault: without the mask the zeros fill, and the step fails."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    monkeypatch.setattr(sparsity, "masker", lambda model, masks: (None, None))
    wrap = masked_lora.wrap
    monkeypatch.setattr(masked_lora, "wrap", lambda m, n, masks, s: wrap(m, n, {}, s))
    with pytest.raises(AttestationError, match="filled .* pruned places"):
        tune(tmp_path, parent, strategy)


def test_bfloat16_qlora_learns_and_keeps_zeros(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4", dtype=torch.bfloat16)
    record, out = tune(tmp_path, parent, "qlora", autocast="bfloat16", epochs=4, learning_rate=2e-2)
    assert record["train"]["last_loss"] < record["train"]["first_loss"]
    assert record["weights"]["nm_valid"] is True
    assert record["weights"]["sparsity_effective"] >= 0.5
    assert open_checkpoint.load(out).record == record["weights"]


def test_bfloat16_stays_bfloat16(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4", dtype=torch.bfloat16)
    for strategy in ("full", "lora"):
        record, _ = tune(tmp_path, parent, strategy, strategy, autocast="bfloat16")
        assert record["weights"]["precision"] == "bfloat16"
        assert record["weights"]["nm_valid"] is True
        assert record["train"]["last_loss"] < record["train"]["first_loss"]


def test_merged_equals_adapter(tmp_path):
    model = tiny.model("llama")
    tiny.prune_(model, "2:4")
    masks = zero_masks.keep_masks(model, "2:4")
    settings = tiny.finetune("lora")
    wrapped = masked_lora.wrap(model, list(masks), masks, settings)
    for layer in masked_lora.layers(wrapped).values():
        torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.1)
    ids = torch.randint(3, 40, (2, 9))
    with torch.enable_grad():  # the training path
        adapter = wrapped(input_ids=ids).logits.detach()
    merged = masked_lora.merge(wrapped)(input_ids=ids).logits.detach()
    assert torch.allclose(adapter, merged, atol=1e-4)
    plain = tiny.model("llama")
    tiny.prune_(plain, "2:4")
    assert (plain(input_ids=ids).logits - merged).abs().max() > 0.1


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_those_of_the_formula(masked, dropout):
    """Against autograd over the plain expression; dropout with eval() so that both see one x."""
    torch.manual_seed(0)
    holder = torch.nn.ModuleDict({"inner": torch.nn.Linear(8, 6)})
    mask = torch.rand(6, 8) > 0.5
    config = masked_lora.LoraConfig(r=2, lora_alpha=4, lora_dropout=dropout)
    layer = masked_lora.MaskedLinear(holder["inner"], "default", config, r=2, lora_alpha=4)
    layer.kept = mask if masked else None
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(3, 5, 8, requires_grad=True)
    layer.train(dropout == 0.0)
    out = layer(x)
    upstream = torch.randn_like(out)
    found = torch.autograd.grad(out, (x, a, b), upstream)
    product = 2.0 * b @ a * (mask if masked else 1)
    plain = F.linear(x, holder["inner"].weight + product, holder["inner"].bias)
    assert torch.allclose(out, plain, atol=1e-5)
    expected = torch.autograd.grad(plain, (x, a, b), upstream)
    for one, two in zip(found, expected, strict=True):
        assert torch.allclose(one, two, atol=1e-4)


@pytest.mark.parametrize("kind", ["opt", "llama", "gpt2"])
def test_padding_changes_nothing(kind):
    model = tiny.model(kind)
    rows = [token_batches.Example([3, 9, 8, 7], [5, 6, 1]), token_batches.Example([3, 4], [9, 1])]
    with torch.no_grad():
        batch = loss.summed_loss(model, *token_batches.collate(rows, 0, "response", "cpu"))
        alone = 0.0
        for row in rows:
            ids = torch.tensor([row.prompt + row.response])
            logits = model(input_ids=ids).logits[0, len(row.prompt) - 1 : -1]
            alone += F.cross_entropy(logits, torch.tensor(row.response), reduction="sum")
    assert torch.allclose(batch, alone, rtol=1e-5)


def test_accumulation_is_one_larger_batch(tmp_path):
    """Responses of one to six words, and a short last step: a mean of means would differ."""
    parent = tiny.artifact(tmp_path / "parent", "llama")
    tiny.data(tmp_path / "data", uneven=True)
    whole = {"rows": 21, "batch_size": 8}
    parts = {"rows": 21, "batch_size": 2, "accumulate": 4}
    _, whole = tune(tmp_path, parent, "full", "whole", **whole)
    _, parts = tune(tmp_path, parent, "full", "parts", **parts)
    one, two = weights(whole), weights(parts)
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)


def test_the_learning_rate_warms_up_and_decays():
    factors = [loop.rate_factor(step, 6, 2, "linear") for step in range(6)]
    assert factors == pytest.approx([1 / 3, 2 / 3, 1, 3 / 4, 1 / 2, 1 / 4])
    assert [loop.rate_factor(s, 3, 0, "linear") for s in range(3)] == pytest.approx(
        [1, 2 / 3, 1 / 3]
    )
    assert {loop.rate_factor(s, 9, 0, "constant") for s in range(9)} == {1.0}


def test_steps_and_batches_cover_each_epoch_once_in_a_new_order():
    settings = {"batch_size": 2, "accumulate": 2, "epochs": 2, "max_steps": None}
    settings["token_budget"] = None
    examples = [token_batches.Example([i], [i]) for i in range(10)]
    assert token_batches.plan(examples, settings, seed=0) == 6
    assert token_batches.plan(examples, settings | {"max_steps": 4}, seed=0) == 4
    steps = [
        [row.prompt[0] for rows in micro for row in rows]
        for micro in token_batches.batches(examples, settings, 6, seed=0)
    ]
    first, second = sum(steps[:3], []), sum(steps[3:], [])
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert [len(step) for step in steps] == [4, 4, 2, 4, 4, 2]


def test_masked_weights_do_not_count_in_the_clipped_norm():
    model = tiny.model("llama")
    tiny.prune_(model, "2:4")
    masks = zero_masks.keep_masks(model, "2:4")
    _, mask_gradients = sparsity.masker(model, masks)
    linears = blocks.prunable(model)
    for module in linears.values():
        module.weight.grad = torch.ones_like(module.weight)
    mask_gradients()
    for name, mask in masks.items():
        assert torch.equal(linears[name].weight.grad != 0, mask)


def test_labels_are_placed_by_length():
    """EOS is learned even where the pad token is EOS itself."""
    rows = [token_batches.Example([3, 4, 5], [6, 1]), token_batches.Example([3], [1])]
    inputs, labels = token_batches.collate(rows, 1, "response", "cpu")
    ignored = token_batches.IGNORED
    assert labels.tolist() == [[ignored] * 3 + [6, 1], [ignored] * 4 + [1]]
    assert inputs["attention_mask"].tolist() == [[1] * 5, [0, 0, 0, 1, 1]]
    _, everything = token_batches.collate(rows, 1, "all", "cpu")
    assert everything.tolist() == [[3, 4, 5, 6, 1], [ignored] * 3 + [3, 1]]


def test_gradient_checkpointing_changes_no_weight(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    for strategy in ("full", "lora"):
        made = [
            tune(
                tmp_path, parent, strategy, f"{strategy}{on}", max_steps=3,
                gradient_checkpointing=on,
            )[0]["weights"]
            for on in (False, True)
        ]  # fmt: skip
        assert made[0]["sha256"] == made[1]["sha256"]


@pytest.mark.parametrize(
    "name", ["activation_checkpointing_enable", "gradient_checkpointing_enable"]
)
def test_checkpointing_goes_by_the_name_that_transformers_has(name):
    given = []
    learning_rates.checkpoint_activations(SimpleNamespace(**{name: given.append}))
    assert given == [{"use_reentrant": False}]


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_divergence_is_an_error(tmp_path, strategy):
    parent = tiny.artifact(tmp_path / "parent", "llama")
    with pytest.raises(PrunegridError, match="diverged.*lower finetune.learning_rate"):
        tune(
            tmp_path, parent, strategy, learning_rate=1e6, epochs=8, max_grad_norm=1e9,
            schedule="constant",
        )  # fmt: skip


def test_nan_loss_is_an_error_at_once(tmp_path, monkeypatch):
    parent = tiny.artifact(tmp_path / "parent", "llama")
    real = loop.summed_loss
    monkeypatch.setattr(loop, "summed_loss", lambda *a: real(*a) * float("nan"))
    with pytest.raises(PrunegridError, match="diverged at step 1"):
        tune(tmp_path, parent, "full")


def test_shares_cut_are_counted(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama")
    data = tiny.data(tmp_path / "data", rows=10, words=80)
    record, out = tune(tmp_path, parent, "full", max_steps=1, prompt=tiny.prompt(max_words=79))
    assert data.exists()
    train = record["train"]
    assert train["share_cut_words"] == 0.2 and train["share_cut_context"] == 1.0
    story = file_io.read_json(out / "finetune.json")
    assert len(story["losses"]) == story["steps"] == 1
    assert story["settings"]["strategy"] == "full"


def test_unknown_target(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "opt")
    with pytest.raises(PrunegridError, match="'dense'.*q_proj"):
        tune(tmp_path, parent, "lora", targets=["q_proj", "dense"])


def test_chosen_targets_only(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "opt")
    _, out = tune(tmp_path, parent, "lora", targets=["q_proj"], max_steps=4)
    before, after = weights(parent), weights(out)
    for name in before:
        assert torch.equal(before[name], after[name]) is (not name.endswith("q_proj")), name


def test_missing_split(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "opt")
    with pytest.raises(PrunegridError, match="no split 'trian'.*did you mean 'train'"):
        tune(tmp_path, parent, "full", split="trian")


def test_masker_on_both_layouts():
    for kind in ("llama", "gpt2"):
        model = tiny.model(kind)
        tiny.prune_(model, "2:4")
        masks = zero_masks.keep_masks(model, "2:4")
        with torch.no_grad():
            for module in blocks.prunable(model).values():
                module.weight.add_(1.0)
        sparsity.masker(model, masks)[0]()
        linears = {n: blocks.oriented(m) for n, m in blocks.prunable(model).items()}
        assert attestation.sparsity_facts(linears, "2:4")["nm_valid"] is True
        for name, mask in masks.items():
            assert torch.equal(linears[name] != 0, mask)


def test_swapped_parent_is_refused(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    other = tiny.artifact(tmp_path / "other", "llama")
    (parent / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(PrunegridError, match="weights in memory"), contextlib.nullcontext():
        tune(tmp_path, parent, "full")
