"""Fused experts: each expert's matrices are prunable linears, views of a tensor of all."""

import pytest
import torch
from torch import nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models import blocks, experts
from tests.helpers import expert_models
from tests.helpers.expert_models import MODELS, build

pytestmark = pytest.mark.model

ALL = pytest.mark.parametrize("kind", MODELS)


@ALL
def test_every_expert_has_linears_that_are_views_of_its_tensors(kind):
    model = build(kind)
    expected = expert_models.weights(model, kind)
    found = {
        name: linear
        for name, linear in blocks.prunable(model).items()
        if isinstance(linear, experts.ExpertLinear)
    }
    assert found.keys() == expected.keys()
    for name, linear in found.items():
        view = blocks.oriented(linear)
        assert view.shape == expected[name].shape
        assert view.data_ptr() == expected[name].data_ptr()
        assert view.stride() == expected[name].stride()
        view[:] = 7
        assert bool((expected[name] == 7).all())


@ALL
def test_blocks_hold_their_other_linears_as_before_and_no_router(kind):
    model = build(kind)
    found = blocks.find_blocks(model)
    plain = {
        name
        for name, module in model.named_modules()
        if name.startswith("model.layers")
        and isinstance(module, nn.Linear)
        and not name.endswith("shared_expert_gate")
    }
    of_experts = expert_models.weights(model, kind).keys()
    assert {n for group in found.linears.values() for n in group} == plain | of_experts
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters() if not n.endswith("_bias")}
    routers = {name for name, shape in shapes.items() if shape == (4, 32)}
    gates = {name for name in shapes if name.endswith("shared_expert_gate.weight")}
    assert found.routers.keys() == routers | gates
    assert len(routers) == len(expert_models.holders(model))


@ALL
def test_a_linear_of_experts_is_found_by_its_name(kind):
    model = build(kind)
    for name, weight in expert_models.weights(model, kind).items():
        linear = experts.linear_named(model, name)
        assert blocks.oriented(linear).data_ptr() == weight.data_ptr()
        assert experts.stored_name(name, linear) in model.state_dict()
    head = experts.linear_named(model, "lm_head")
    assert head is model.lm_head
    assert experts.stored_name("lm_head", head) == "lm_head.weight"


class Fused(nn.Module):
    """Experts of which nothing says how they are stored."""

    def __init__(self, first: tuple[int, int], second: tuple[int, int]) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(3, *first))
        self.second = nn.Parameter(torch.zeros(3, *second))


@pytest.mark.parametrize(
    ("first", "second", "flipped"),
    [
        ((16, 6), (6, 8), False),  # gate and up in one: [2 d, width], [width, d]
        ((6, 16), (8, 6), True),
        ((8, 6), (6, 8), None),  # no gate: either way fits
        ((5, 7), (9, 4), None),
    ],
)
def test_shapes_tell_how_experts_are_stored_where_they_leave_no_doubt(first, second, flipped):
    found = experts.experts_of(nn.Sequential(Fused(first, second)))
    if flipped is None:
        assert not found
    else:
        assert found.keys() == {f"0.{t}.{i}" for t in ("first", "second") for i in range(3)}
        assert {linear.flipped for linear in found.values()} == {flipped}


class Listed(nn.Module):
    """A block with a router beside listed experts, and an attention as wide as they are many."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = SomeAttention()
        self.choose = nn.Linear(8, 3, bias=False)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 3)) for _ in range(3))


class SomeAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(8, 3, bias=False)


def listed() -> nn.Module:
    model = nn.Module()
    model.blocks = nn.ModuleList(Listed() for _ in range(2))
    return model


def test_a_router_beside_a_list_of_experts_stays_dense_unless_it_is_included():
    found = blocks.find_blocks(listed())
    assert found.routers.keys() == {"blocks.0.choose.weight", "blocks.1.choose.weight"}
    assert "blocks.0.choose" not in found.linears["blocks.0"]
    found = blocks.find_blocks(listed(), include=["*.1.choose"])
    assert found.routers.keys() == {"blocks.0.choose.weight"}
    assert "blocks.1.choose" in found.linears["blocks.1"]
    assert not found.outside


def test_a_pattern_that_names_no_router_says_which_there_are():
    with pytest.raises(PrunegridError, match=r"blocks\.0\.choose"):
        blocks.find_blocks(listed(), include=["*.gate"])


class Sized(nn.Module):
    """Experts of one tensor, in a module that names its sizes."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.input_size, self.output_size = 6, 4
        self.weight = nn.Parameter(torch.zeros(3, *shape))


@pytest.mark.parametrize(("shape", "flipped"), [((4, 6), False), ((6, 4), True), ((4, 4), None)])
def test_named_sizes_tell_how_a_single_tensor_is_stored(shape, flipped):
    found = experts.experts_of(nn.Sequential(Sized(*shape)))
    assert found.keys() == (
        {"0.weight.0", "0.weight.1", "0.weight.2"} if flipped is not None else set()
    )
    assert {linear.flipped for linear in found.values()} <= {flipped}


class SomeRouter(nn.Module):
    """A router of two layers, which may also choose no expert at all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 5), nn.Linear(5, 4)


def test_all_matrices_of_a_router_stay_dense():
    model = listed()
    for block in model.blocks:
        block.choose = SomeRouter()
    found = blocks.find_blocks(model)
    assert found.routers.keys() == {
        f"blocks.{i}.choose.{layer}.weight" for i in (0, 1) for layer in ("first", "second")
    }
    assert not any("choose" in name for group in found.linears.values() for name in group)


@pytest.mark.parametrize(
    ("pattern", "left"), [("*.experts.down_proj", 4), ("*.experts.down_proj.[12]", 2)]
)
def test_the_name_of_a_tensor_excludes_all_its_experts(pattern, left):
    model = build("mixtral")
    found = blocks.find_blocks(model, exclude=[pattern])
    gone = {f"model.layers.{i}.mlp.experts.down_proj.{e}" for i in (0, 1) for e in range(4)}
    excluded = found.excluded.keys()
    assert len(excluded) == 2 * left and excluded <= gone
    assert not excluded & found.all_linears().keys()
