"""Which matrices of a block are linears, routers or neither, against a table of small models."""

import pytest
import torch
from torch import nn

from prunegrid.models.block_matrices import is_matrix, routers
from prunegrid.models.blocks import find_blocks
from prunegrid.models.experts import stored_name
from prunegrid.models.prunable import Extent
from tests.helpers.odd_models import ODD, build, kinds

pytestmark = pytest.mark.model


@pytest.mark.parametrize("name", ODD)
def test_the_shares_are_those_of_the_table(name):
    model = build(name)
    expected, found = kinds(name, model), find_blocks(model)
    assert found.routers.keys() == expected["routers"].keys()
    assert found.others.keys() == expected["others"].keys()
    linears = {stored_name(linear, module) for linear, module in found.all_linears().items()}
    assert linears == expected["linears"].keys() | expected["uncalled"].keys()
    sizes = {kind: sum(w.numel() for w in named.values()) for kind, named in expected.items()}
    total = sum(sizes.values())
    uncalled = tuple(name.removesuffix(".weight") for name in expected["uncalled"])
    shares = Extent(uncalled=uncalled).shares(model)
    assert shares["prunable_share"] == pytest.approx(sizes["linears"] / total)
    assert shares["router_share"] == pytest.approx(sizes["routers"] / total)
    assert shares["uncalled_share"] == pytest.approx(sizes["uncalled"] / total)
    assert shares["excluded_share"] == 0


@pytest.mark.parametrize(
    "shape, counts",
    [
        ((64, 64), True),
        ((17, 500), True),
        ((16, 500), False),  # an array by channel
        ((500, 1, 4), False),  # a depthwise kernel
        ((1, 1, 500), False),
        ((500,), False),
        ((4, 16, 8), True),  # a stack
        ((500, 500, 1), True),  # a convolution over channels
    ],
)
def test_what_counts_as_a_matrix(shape, counts):
    assert is_matrix(shape) is counts


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(16, 8), nn.Linear(8, 16)


class Mixture(nn.Module):
    """Experts one by one in a list, their router beside it, a linear of another height too."""

    def __init__(self, count):
        super().__init__()
        self.chooser = nn.Sequential(nn.Linear(16, count, bias=False))
        self.parts = nn.ModuleList(Expert() for _ in range(count))
        self.other = nn.Linear(16, count + 1)


def test_a_router_has_a_row_for_each_expert_beside_it():
    block = nn.ModuleDict({"mixture": Mixture(3), "attention": nn.Linear(16, 3)})
    assert routers(block).keys() == {"mixture.chooser.0.weight"}


def test_linears_that_repeat_are_no_experts():
    """A list of one class without a linear of as many rows beside it: MobileBERT's."""
    block = nn.ModuleDict({"layers": nn.ModuleList([Expert(), Expert()]), "one": nn.Linear(16, 8)})
    assert not routers(block)


def test_a_shared_weight_is_found_once():
    model = build("zamba2")
    found = find_blocks(model)
    assert found.twins
    for name, (first, module) in found.twins.items():
        assert module is model.get_submodule(name) and name != first
        assert module.weight is model.get_submodule(first).weight
    weights = [id(module.weight) for module in found.all_linears().values()]
    assert len(set(weights)) == len(weights)


def test_what_a_packed_linear_stands_for_is_counted():
    """In NF4 a linear's parameter has half as many elements, in another shape."""
    model = nn.Module()
    model.layers = nn.ModuleList([nn.ModuleDict({"a": nn.Linear(64, 64)}) for _ in range(2)])
    model.layers[0]["a"].weight = nn.Parameter(torch.zeros(2048, 1), requires_grad=False)
    shares = Extent(exclude=("layers.0.*",)).shares(model)
    assert shares["excluded_share"] == shares["prunable_share"] == 0.5
