"""Reconstruction: a pruned model's linears refitted to the dense model's outputs."""

from __future__ import annotations

import pytest
import torch

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.finetuning.strategies import reconstruct
from prunegrid.models import blocks, checkpoint
from prunegrid.pruning import paired_inputs
from tests.helpers import tiny
from tests.helpers.tuning import KINDS, PATTERNS, REFIT, calibration, change, masks_of, weights

pytestmark = pytest.mark.model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_reconstruction_comes_nearer_to_the_dense_model(tmp_path, kind, pattern):
    """On held-out tokens too; zeros stay; each linear's own error falls."""
    dense = tiny.artifact(tmp_path / "dense", kind)
    pruned = tiny.artifact(tmp_path / "pruned", kind, pattern)
    parents = {"dense": dense, "calibration": calibration(tmp_path / "c", 32)}
    record, out = change(tmp_path, pruned, parents=parents, **REFIT)
    facts = record["transform"]
    assert facts["zeros_promised"] == "all" and facts["zeros_filled"] == 0
    assert facts["tokens"] == 32 * 16 and facts["error_after"] < 0.9 * facts["error_before"]
    story = file_io.read_json(out / "transform.json")["linears"]
    before, after = weights(pruned), weights(out)
    assert set(story) == set(before)
    for name, mask in masks_of(pruned).items():
        assert story[name]["error_after"] <= story[name]["error_before"], name
        assert not after[name][~mask].any() and after[name][mask].all(), name
        assert (after[name] != before[name])[mask].float().mean() > 0.9, name
    ids = torch.randint(3, 40, (16, 16), generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        wanted, was, now = (
            checkpoint.read_model(f)(input_ids=ids).logits for f in (dense, pruned, out)
        )
    assert (now - wanted).square().mean() < 0.9 * (was - wanted).square().mean()


def test_reconstruction_of_a_dense_model_changes_nothing(tmp_path):
    dense = tiny.artifact(tmp_path / "dense", "llama")
    parents = {"dense": dense, "calibration": calibration(tmp_path / "c")}
    record, out = change(tmp_path, dense, parents=parents, **REFIT)
    assert record["weights"]["sha256"] == checkpoint.load(dense).record["sha256"]
    assert record["transform"]["zeros_promised"] is None


def test_reconstruction_wants_the_same_architecture(tmp_path):
    parents = {
        "dense": tiny.artifact(tmp_path / "dense", "opt"),
        "calibration": calibration(tmp_path / "c"),
    }
    pruned = tiny.artifact(tmp_path / "pruned", "llama", "2:4")
    with pytest.raises(PrunegridError, match="of another architecture"):
        change(tmp_path, pruned, parents=parents, **REFIT)


def test_linears_that_share_an_input_are_measured_once(tmp_path):
    """q, k and v together, gate and up together: as many passes less."""
    model = checkpoint.read_model(tiny.artifact(tmp_path / "dense", "llama"))
    block, linears = next(iter(blocks.find_blocks(model).linears.items()))
    ids = torch.randint(3, 40, (1, 8))
    with torch.no_grad():
        found = paired_inputs.groups(linears, lambda: model(input_ids=ids))
    ends = [{name.rpartition(".")[2] for name in group} for group in found]
    assert ends == [
        {"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}
    ]  # fmt: skip
    assert all(name.startswith(block) for group in found for name in group)


def test_refitting_is_least_squares():
    """Against torch's own, row by row over the kept columns, λ as rows of their own."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 8, generator=draw)
    y = x + 0.3 * torch.randn(60, 8, generator=draw)
    dense = torch.randn(5, 8, generator=draw)
    kept = torch.rand(5, 8, generator=draw) > 0.5
    kept[0], kept[1] = False, True
    pruned, scale = dense * kept, 2 / 60
    gram = scale * y.T @ y
    new, facts = reconstruct.refit_linear(
        pruned, kept, gram, dense @ (scale * x.T @ y), float(scale * (x @ dense.T).square().sum()),
        dampening=0.1, iterations=200, tolerance=1e-7,
    )  # fmt: skip
    pull = (0.1 * gram.diagonal().mean() / scale).sqrt()
    for row in range(5):
        columns = kept[row].nonzero()[:, 0]
        assert not new[row][~kept[row]].any()
        if not len(columns):
            continue
        left = torch.cat([y[:, columns], pull * torch.eye(len(columns))])
        right = torch.cat([x @ dense[row], pull * pruned[row, columns]])
        expected = torch.linalg.lstsq(left, right).solution
        assert torch.allclose(new[row, columns], expected, atol=1e-4)
    for key, weight in (("error_before", pruned), ("error_after", new)):
        plain = (y @ weight.T - x @ dense.T).square().sum() / (x @ dense.T).square().sum()
        assert facts[key] == pytest.approx(float(plain), rel=1e-3)


def test_a_refit_without_its_mask_is_seen(tmp_path, monkeypatch):
    dense = tiny.artifact(tmp_path / "dense", "llama")
    pruned = tiny.artifact(tmp_path / "pruned", "llama", "2:4")
    parents = {"dense": dense, "calibration": calibration(tmp_path / "c")}
    real = reconstruct.refit
    monkeypatch.setattr(
        reconstruct, "refit", lambda m, d, t, masks, *rest, **n: real(m, d, t, {}, *rest, **n)
    )
    with pytest.raises(AttestationError, match="pruned places"):
        change(tmp_path, pruned, parents=parents, **REFIT)
