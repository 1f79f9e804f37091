"""Refitting by parts, over every architecture: zeros stay, errors fall, nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch

from prunegrid.finetuning import part_refit
from prunegrid.models.blocks import oriented
from prunegrid.models.prunable import Extent
from prunegrid.models.zero_masks import keep_masks
from prunegrid.pruning.holding import Storage
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe
from tests.helpers import expert_models
from tests.helpers.architectures import ARCHITECTURES, build

pytestmark = pytest.mark.model

BUDGET = part_refit.Budget([3e-3, 1e-2], epochs=2, batch_size=2, held_out=0.25)
MODELS = {name: build for name in ARCHITECTURES} | dict.fromkeys(
    expert_models.MODELS, expert_models.build
)


def refitted(name, grain="submodule", exclude=()):
    """Return (dense, pruned, refitted, masks, story) of a model at 2:4."""
    dense, extent = MODELS[name](name), Extent(exclude=exclude)
    pruned = copy.deepcopy(dense)
    with torch.no_grad():
        prune_model(pruned, Recipe("magnitude", "2:4", extent=extent))
    masks = keep_masks(pruned, "2:4", extent)
    tokens = torch.randint(2, 60, (8, 12), generator=torch.Generator().manual_seed(0))
    model = copy.deepcopy(pruned)
    story = part_refit.refit(
        model, dense, tokens, masks, "here", extent=extent, grain=grain, budget=BUDGET, seed=1
    )
    return dense, pruned, model, masks, story


@pytest.mark.parametrize("name", MODELS)
def test_parts_of_every_architecture_are_refitted_under_their_masks(name):
    dense, pruned, model, masks, story = refitted(name)
    assert part_refit.summary(story)["parts_refitted"] >= len(story) / 2
    for part, facts in story.items():
        assert facts["error_after"] <= facts["error_before"], part
        assert (facts["error_after"] < facts["error_before"]) is (facts["kept_epoch"] > 0), part
    assert (
        part_refit.mean_errors(story)["error_after"]
        < 0.98 * (part_refit.mean_errors(story)["error_before"])
    )
    linears = Extent().linears(model)
    for key, mask in masks.items():
        assert not oriented(linears[key])[~mask].any(), key
    require_others_unchanged(pruned, model, masks)
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())


def require_others_unchanged(pruned, model, masks):
    """Check that only tensors with prunable weights differ."""
    inside = {
        key if f"{key}.weight" not in model.state_dict() else f"{key}.weight" for key in masks
    }
    # A tensor of fused experts stands for the matrices inside.
    inside |= {key.rpartition(".")[0] for key in masks}
    before = pruned.state_dict()
    changed = {key for key, v in model.state_dict().items() if not torch.equal(v, before[key])}
    assert changed and changed <= inside


def test_a_block_at_once_is_refitted():
    _, pruned, model, masks, story = refitted("m2m100", "block")
    assert list(story) == [*ARCHITECTURES["m2m100"].names()]
    assert (
        part_refit.mean_errors(story)["error_after"]
        < 0.98 * (part_refit.mean_errors(story)["error_before"])
    )
    require_others_unchanged(pruned, model, masks)


@pytest.mark.parametrize("left", ["model.layers.0.mlp.experts.down_proj.1", "*.q_proj"])
def test_what_was_left_dense_stays_as_it_is(left):
    dense, _, model, masks, story = refitted("mixtral", exclude=(left,))
    every = Extent().linears(model)
    others = every.keys() - masks.keys()
    assert others and not others & {n for facts in story.values() for n in facts["linears"]}
    for name in others:
        assert torch.equal(oriented(every[name]), oriented(Extent().linears(dense)[name])), name


def test_refitting_is_the_same_wherever_hidden_states_are_held(tmp_path):
    found = []
    for place in ("device", "cpu", "disk"):
        dense = build("llama")
        pruned = copy.deepcopy(dense)
        with torch.no_grad():
            prune_model(pruned, Recipe("magnitude", "2:4"))
        tokens = torch.randint(2, 60, (8, 12), generator=torch.Generator().manual_seed(0))
        storage = Storage(place, 3, tmp_path)
        part_refit.refit(
            pruned, dense, tokens, keep_masks(pruned, "2:4"), "here", storage,
            grain="submodule", budget=BUDGET, seed=1,
        )  # fmt: skip
        found.append(pruned.state_dict())
    for other in found[1:]:
        assert all(torch.equal(value, other[key]) for key, value in found[0].items())


def test_bfloat16_products_come_near_the_same_errors():
    """Under autocast, natively or emulated: weights stay in float32 and no cast of them is old."""
    dense = build("llama")
    pruned = copy.deepcopy(dense)
    with torch.no_grad():
        prune_model(pruned, Recipe("magnitude", "2:4"))
    masks, tokens = keep_masks(pruned, "2:4"), torch.arange(96).view(8, 12) % 60 + 2
    errors = []
    for autocast in (False, True):
        model = copy.deepcopy(pruned)
        story = part_refit.refit(
            model, copy.deepcopy(dense), tokens, masks, "here", grain="submodule", budget=BUDGET,
            seed=1, autocast=autocast,
        )  # fmt: skip
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        errors.append(part_refit.mean_errors(story)["error_after"])
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
