"""Reconstruction by sub-module and by block: through the stage, on what it leaves and records."""

from __future__ import annotations

import pytest
import torch

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.finetuning import part_refit
from prunegrid.finetuning.training.divergence import Diverged
from prunegrid.models import checkpoint
from tests.helpers import tiny
from tests.helpers.tuning import KINDS, PATTERNS, calibration, change, masks_of, weights

pytestmark = pytest.mark.model

FIT = {
    "strategy": "reconstruct",
    "grain": "submodule",
    "learning_rates": [1e-3, 1e-2],
    "epochs": 4,
    "batch_size": 2,
    "held_out": 0.25,
}


@pytest.fixture
def parents(tmp_path):
    """Return a function from an architecture and a pattern to (pruned, parents)."""

    def make(kind="llama", pattern="2:4", samples=16):
        dense = tiny.artifact(tmp_path / "dense", kind)
        pruned = tiny.artifact(tmp_path / "pruned", kind, pattern)
        return pruned, {"dense": dense, "calibration": calibration(tmp_path / "c", samples)}

    return make


@pytest.mark.parametrize(
    ("kind", "pattern", "grain"),
    [*zip(KINDS, PATTERNS, ["submodule"] * 3, strict=True), ("llama", "2:4", "block")],
)
def test_parts_come_nearer_to_the_dense_model(tmp_path, parents, kind, pattern, grain):
    """On text of neither kind of window; zeros and all that is no kept weight stay."""
    pruned, roles = parents(kind, pattern)
    record, out = change(tmp_path, pruned, parents=roles, **FIT | {"grain": grain})
    facts, story = record["transform"], file_io.read_json(out / "transform.json")["parts"]
    assert facts["zeros_promised"] == "all" and facts["zeros_filled"] == 0
    assert record["weights"]["nm_valid"] is (True if ":" in pattern else None)
    assert facts["error_after"] < 0.9 * facts["error_before"]
    assert facts["parts_refitted"] == len(story) == (2 if grain == "block" else 4)
    for name, part in story.items():
        assert part["error_after"] <= part["error_before"], name
    before, after = weights(pruned), weights(out)
    assert {name for part in story.values() for name in part["linears"]} == set(before)
    for name, mask in masks_of(pruned).items():
        assert not after[name][~mask].any() and after[name][mask].all(), name
        assert (after[name] != before[name])[mask].float().mean() > 0.9, name
    was, now = (checkpoint.read_model(f).state_dict() for f in (pruned, out))
    others = [key for key in was if key.removesuffix(".weight") not in before]
    assert others and all(torch.equal(was[key], now[key]) for key in others)
    ids = torch.randint(3, 40, (16, 16), generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        wanted, was, now = (
            checkpoint.read_model(f)(input_ids=ids).logits for f in (roles["dense"], pruned, out)
        )
    assert (now - wanted).square().mean() < 0.9 * (was - wanted).square().mean()


def test_a_dense_model_is_left_as_it_is(tmp_path, parents):
    _, roles = parents()
    record, _ = change(tmp_path, roles["dense"], parents=roles, **FIT)
    assert record["weights"]["sha256"] == checkpoint.load(roles["dense"]).record["sha256"]
    assert record["transform"]["parts_unchanged"] == 4


def test_the_same_settings_give_the_same_bytes(tmp_path, parents):
    pruned, roles = parents()
    first, second = (
        change(tmp_path, pruned, name, roles, **FIT)[0]["weights"]["sha256"] for name in "ab"
    )
    other, _ = change(tmp_path, pruned, "c2", roles, **FIT | {"batch_size": 3})
    assert first == second != other["weights"]["sha256"]


def test_later_blocks_keep_the_rate_that_was_best_first(tmp_path, parents):
    pruned, roles = parents()
    _, out = change(tmp_path, pruned, parents=roles, **FIT)
    story = file_io.read_json(out / "transform.json")["parts"]
    for place in ("self_attn", "mlp"):
        first, second = (story[f"model.layers.{block}.{place}"] for block in (0, 1))
        assert [run["learning_rate"] for run in first["tries"]] == FIT["learning_rates"]
        assert [run["learning_rate"] for run in second["tries"]] == [first["learning_rate"]]


def test_a_rate_that_diverges_is_recorded_and_another_wins(tmp_path, parents):
    pruned, roles = parents()
    rates = {"learning_rates": [1e30, 1e-2]}
    record, out = change(tmp_path, pruned, parents=roles, **FIT | rates)
    story = file_io.read_json(out / "transform.json")["parts"]
    first = story["model.layers.0.mlp"]
    assert [run["diverged"] for run in first["tries"]] == [True, False]
    assert record["transform"]["runs_diverged"] == 2
    assert all(part["learning_rate"] == 1e-2 for part in story.values())


def test_a_step_whose_every_rate_diverges_fails_in_one_sentence(tmp_path, parents):
    pruned, roles = parents()
    with pytest.raises(Diverged, match="learning rate 1e\\+30") as caught:
        change(tmp_path, pruned, parents=roles, **FIT | {"learning_rates": [1e30]})
    assert caught.value.where == "model.layers.0.self_attn"
    assert "finetune.learning_rates" in caught.value.remedy


@pytest.mark.parametrize("held_out", [0.0, 0.01, 0.99, 1.5])
def test_windows_are_left_on_either_side(tmp_path, parents, held_out):
    pruned, roles = parents()
    with pytest.raises(PrunegridError, match="held_out") as caught:
        change(tmp_path, pruned, parents=roles, **FIT | {"held_out": held_out})
    assert caught.value.where == "test"


def test_a_fit_without_its_mask_is_seen(tmp_path, parents, monkeypatch):
    pruned, roles = parents()
    real = part_refit.refit
    monkeypatch.setattr(
        part_refit, "refit", lambda m, d, t, masks, *rest, **n: real(m, d, t, {}, *rest, **n)
    )
    with pytest.raises(AttestationError, match="pruned places"):
        change(tmp_path, pruned, parents=roles, **FIT)


def test_weights_in_bfloat16_are_fitted_in_float32_and_stored_as_they_were(tmp_path):
    dense = tiny.artifact(tmp_path / "dense", "llama", dtype=torch.bfloat16)
    pruned = tiny.artifact(tmp_path / "pruned", "llama", "2:4", dtype=torch.bfloat16)
    roles = {"dense": dense, "calibration": calibration(tmp_path / "c", 16)}
    record, out = change(tmp_path, pruned, parents=roles, **FIT)
    assert {w.dtype for w in weights(out).values()} == {torch.bfloat16}
    assert record["transform"]["error_after"] < 0.9 * record["transform"]["error_before"]
