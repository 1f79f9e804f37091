"""What must hold for every supported architecture.

The checks know from the table where a model's blocks are, and run its own forward: they share
nothing with the library but the functions that they check.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn

from prunegrid.models import blocks, checkpoint, loading
from prunegrid.pruning import dense_statistics, layerwise, replay
from prunegrid.pruning.recipe import Recipe
from tests.helpers.architectures import (
    ARCHITECTURES,
    by_output,
    flat,
    inputs_of,
    linears_inside,
    own_forward,
    ties,
)
from tests.helpers.rounding import close


def check_linears(model: nn.Module, name: str) -> None:
    """Prunable are the matrices inside blocks, each in a linear, and nothing outside."""
    made = ARCHITECTURES[name]
    found = blocks.find_blocks(model)
    assert {block: len(linears) for block, linears in found.linears.items()} == made.names()
    assert found.names == list(made.names())
    assert [model.get_submodule(block) for block in found.names] == found.modules
    prunable = blocks.prunable(model)
    every = dict(model.named_modules())
    assert all(every[key] is module for key, module in prunable.items())
    embeddings = {id(m.weight) for m in every.values() if isinstance(m, nn.Embedding)}
    matrices = {
        key.removesuffix(".weight")
        for key, parameter in model.named_parameters()
        if parameter.dim() > 1
        and key.startswith(tuple(f"{block}." for block in made.names()))
        and id(parameter) not in embeddings
    }
    assert prunable.keys() == matrices
    outside = {
        key
        for key, module in every.items()
        if isinstance(module, nn.Linear) and key not in matrices
    }
    assert all(any(key.endswith(end) for key in outside) for end in made.outside)
    assert all(key.endswith(made.outside) for key in outside)


def check_orientation(model: nn.Module, name: str, tokens: Tensor) -> None:
    """A linear's output is its input times `oriented`'s transpose."""
    calls = {}
    found = flat(linears_inside(model, name))
    handles = [
        module.register_forward_hook(
            lambda _m, args, output, key=key: calls.update({key: (args[0], output)})
        )
        for key, module in found.items()
    ]
    own_forward(model, tokens[0])
    for handle in handles:
        handle.remove()
    assert calls.keys() == found.keys()
    for key, (inputs, output) in calls.items():
        weight, bias = blocks.oriented(found[key]), found[key].bias
        assert weight.shape == (output.shape[-1], inputs.shape[-1]), key
        expected = inputs @ weight.t() + (0 if bias is None else bias)
        magnitude = inputs.abs() @ weight.t().abs() + (0 if bias is None else bias.abs())
        assert close(output, expected, weight.shape[1] + 1, magnitude), key


def check_forward(model: nn.Module, name: str, tokens: Tensor) -> None:
    """Run by hand, block after block gives what it gives inside the model, on every sample."""
    names = list(ARCHITECTURES[name].names())
    by_hand: dict[str, list[Tensor]] = {block: [] for block in names}
    walked = replay.Replay(model, blocks.find_blocks(model), tokens)
    for index, block in enumerate(walked.blocks.names):
        by_hand[block] = [walked.run(index, sample) for sample in range(len(tokens))]
        for sample, output in enumerate(by_hand[block]):
            walked.advance(index, sample, output)
    own: dict[str, list[Tensor]] = {block: [] for block in names}
    handles = [
        model.get_submodule(block).register_forward_hook(
            lambda _m, _a, output, b=block: own[b].append(
                output if isinstance(output, torch.Tensor) else output[0]
            )
        )
        for block in names
    ]
    for window in tokens:
        own_forward(model, window)
    for handle in handles:
        handle.remove()
    terms = sum(by_output(linear).shape[1] for linear in flat(linears_inside(model, name)).values())
    for block in names:
        assert len(own[block]) == len(by_hand[block]) == len(tokens), block
        for ours, theirs in zip(by_hand[block], own[block], strict=True):
            assert close(ours, theirs, terms), block
        assert "forward" not in model.get_submodule(block).__dict__


def check_norms(model: nn.Module, name: str, tokens: Tensor) -> None:
    """The calibration's norms are those of what the linears are given in the model's forward."""
    norms = dense_statistics.dense_norms(model, tokens)
    linears = flat(linears_inside(model, name))
    assert norms.keys() == linears.keys()
    for key, given in inputs_of(model, linears, tokens).items():
        expected = torch.cat(given).square().mean(0)
        # Of inputs that were computed in the same way, here and there.
        assert close(norms[key], expected, len(tokens) * tokens.shape[1], expected), key


def check_moments(model: nn.Module, name: str, tokens: Tensor) -> None:
    """Means and variances are those of what the linears are given in the model's forward."""
    linears = flat(linears_inside(model, name))
    twins = blocks.find_blocks(model).twins
    found = dense_statistics.stats_in_model(model, linears, tokens, "input_moments", twins)
    assert found.keys() == linears.keys()
    for key, given in inputs_of(model, linears, tokens).items():
        inputs = torch.cat(given).double()
        magnitude, terms = inputs.abs().mean(0), len(inputs)
        assert close(found[key].input_means, inputs.mean(0), terms, magnitude), key
        assert close(found[key].input_variances, inputs.var(0, correction=0), terms), key


def check_compensated(model: nn.Module, name: str, tokens: Tensor) -> None:
    """With dense statistics each linear's mean output is the dense one, if it has a bias."""
    linears = flat(linears_inside(model, name))
    dense = {key: (by_output(m).clone(), m.bias) for key, m in linears.items()}
    dense = {key: (w, None if b is None else b.detach().clone()) for key, (w, b) in dense.items()}
    given = {k: torch.cat(x).double().mean(0) for k, x in inputs_of(model, linears, tokens).items()}
    report = layerwise.prune_model(
        model, Recipe("stade", "2:4"), tokens=tokens, propagation="dense"
    )
    for key, linear in linears.items():
        weight, bias = dense[key]
        if bias is None:
            assert "biases_changed" not in report[key] and linear.bias is None, key
            continue
        lost = (weight.double() - by_output(linear).double()) @ given[key]
        magnitude = weight.double().abs() @ given[key].abs() + bias.abs()
        assert close(linear.bias, bias + lost, weight.shape[1] + len(tokens) * 24, magnitude), key
        assert report[key]["biases_changed"] == int((linear.bias != bias).sum()) > 0, key


def check_pruned(model: nn.Module, name: str, tokens: Tensor, recipe: Recipe, how: str) -> None:
    """2:4 is where the inputs are, in every linear of every block, and nothing else changes."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tied = ties(model)
    report = layerwise.prune_model(model, recipe, tokens=tokens, propagation=how)
    linears = flat(linears_inside(model, name))
    assert report.keys() == linears.keys()
    for key, module in linears.items():
        weight = by_output(module)
        assert (weight != 0).reshape(-1, 4).sum(1).max() == 2, key
        assert report[key]["zeros"] == weight.numel() // 2
        assert report[key]["shape"] == list(weight.shape)
    for key, value in model.state_dict().items():
        pruned = key.removesuffix(".weight") in linears
        assert torch.equal(value, before[key]) != pruned, key
    assert ties(model) == tied
    assert all(torch.isfinite(value).all() for value in own_forward(model, tokens[0])[:1])


def check_saved(model: nn.Module, name: str, tokens: Tensor, folder: Path) -> None:
    """Unmodified transformers loads what is saved: the same class, tensors, zeros and ties."""
    record = checkpoint.write_plain(model, None, folder, pattern="2:4").record
    auto = getattr(transformers, ARCHITECTURES[name].auto)
    loaded, found = auto.from_pretrained(folder, dtype="auto", output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert type(loaded) is type(model) is type(loading.read_model(folder))
    assert ties(loaded) == ties(model)
    state = loaded.state_dict()
    assert state.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert state[key].dtype == value.dtype and torch.equal(state[key], value), key
    assert torch.equal(own_forward(loaded.eval(), tokens[0])[0], own_forward(model, tokens[0])[0])
    linears = flat(linears_inside(loaded, name))
    zeros = sum(int((module.weight == 0).sum()) for module in linears.values())
    assert record["prunable_zeros"] == zeros
    assert record["prunable_parameters"] == sum(m.weight.numel() for m in linears.values())
    assert record["nm_valid"] is True


def check_sequential(model: nn.Module, name: str, tokens: Tensor) -> None:
    """Wanda as in its paper: by the inputs that a forward of the model pruned so far gives."""
    slow = copy.deepcopy(model)
    layerwise.prune_model(model, Recipe("wanda", sparsity=0.5), tokens=tokens)
    pruned = flat(linears_inside(model, name))
    for linears in linears_inside(slow, name).values():
        for key, given in inputs_of(slow, linears, tokens).items():
            weight, found = by_output(linears[key]), by_output(pruned[key])
            check_lowest_gone(wanda_scores(weight, given), found == 0, key)
            weight.copy_(found)  # so that a near-tie changes no inputs that come after it


def wanda_scores(weight: Tensor, given: list[Tensor]) -> Tensor:
    """Return Wanda's scores [d_out, d_in] of a weight by the inputs that its linear is given."""
    return weight.abs() * torch.cat(given).square().mean(0).sqrt()


def check_lowest_gone(scores: Tensor, gone: Tensor, key: str) -> None:
    """Half of each row is gone, and no score that is clearly lower is left.

    Scores within 1e-4 are a tie that rounding decides: inputs that come through a few blocks in
    float32 are known to about 1e-5.
    """
    assert (gone.sum(1) == scores.shape[1] // 2).all(), key
    highest_gone = scores.masked_fill(~gone, 0).amax(1)
    lowest_left = scores.masked_fill(gone, torch.inf).amin(1)
    assert (highest_gone <= (1 + 1e-4) * lowest_left).all(), key
