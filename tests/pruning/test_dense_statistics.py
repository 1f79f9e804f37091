"""Hessians on disk: to the bit what was measured, and cells are pruned by them as by the model."""

import pytest
import torch

from prunegrid.common.errors import PrunegridError
from prunegrid.models.blocks import oriented, prunable
from prunegrid.models.prunable import Extent
from prunegrid.pruning.dense_statistics import OUTSIDE, StoredHessians, write, write_hessians
from prunegrid.pruning.input_stats import PANEL, Accumulator
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe
from tests.helpers import tiny

pytestmark = pytest.mark.model

RECIPES = [
    Recipe("sparsegpt", "2:4"),
    Recipe("sparsegpt", "unstructured", sparsity=0.5),
    Recipe("wanda", "2:4", update="least_squares"),
    Recipe("stade", "2:4"),
    Recipe("stade", "2:4", update="least_squares"),
]


def tokens():
    return torch.randint(5, 40, (3, 24), generator=torch.Generator().manual_seed(0))


def weights(model, include=()):
    return {name: oriented(m).clone() for name, m in prunable(model, include=include).items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize("width", [1, 7, PANEL - 1, PANEL, PANEL + 1, 2 * PANEL + 3])
def test_what_is_read_is_what_was_measured(tmp_path, width):
    sums = Accumulator("hessian_and_moments", width)
    sums.add(torch.randn(40, width, generator=torch.Generator().manual_seed(width)), "x")
    found = sums.finish()
    write(0, {"a": found, "b": found}, tmp_path)
    read = StoredHessians(tmp_path).block(0)
    assert read["a"] is read["b"], "what a method computes once of an input would be computed twice"
    assert torch.equal(read["a"].hessian, found.hessian)
    assert torch.equal(read["a"].input_norms, found.input_norms)
    assert torch.equal(read["a"].input_means, found.input_means)
    assert torch.equal(read["a"].input_variances, found.input_variances)
    assert read["a"].tokens == 40
    assert StoredHessians(tmp_path).block(0, hessian=False)["a"].hessian is None
    size = (tmp_path / "0.safetensors").stat().st_size
    assert size < 4 * (width * (width + PANEL) / 2 + 3 * width) + 1200


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.method}-{r.pattern}-{r.update}")
@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_cells_are_those_of_the_models_own_hessians(tmp_path, kind, recipe):
    model = tiny.model(kind)
    before = weights(model)
    write_hessians(model, tokens(), tmp_path)
    assert equal(weights(model), before), "the dense model was changed"
    prune_model(model, recipe, hessians=StoredHessians(tmp_path), propagation="dense")
    expected = tiny.model(kind)
    prune_model(expected, recipe, tokens=tokens(), propagation="dense")
    assert equal(weights(model), weights(expected))
    assert not equal(weights(model), before)


def test_linears_outside_the_blocks_have_hessians_too(tmp_path):
    extent = Extent(include=("lm_head",))
    recipe = Recipe("sparsegpt", "2:4", extent=extent)
    model, expected = (untied() for _ in range(2))
    write_hessians(model, tokens(), tmp_path, extent=extent)
    stored = StoredHessians(tmp_path)
    prune_model(model, recipe, tokens=tokens(), hessians=stored, propagation="dense")
    prune_model(expected, recipe, tokens=tokens(), propagation="dense")
    assert equal(weights(model, ("lm_head",)), weights(expected, ("lm_head",)))
    assert list(stored.block(OUTSIDE)) == ["lm_head"]


def test_what_was_not_measured_is_told(tmp_path):
    write_hessians(tiny.model("llama"), tokens(), tmp_path)
    with pytest.raises(PrunegridError, match="no Hessians of these linears"):
        StoredHessians(tmp_path).block(OUTSIDE)


def untied():
    model = tiny.model("llama")
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model
