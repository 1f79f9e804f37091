"""The contract that every supported architecture keeps, and faults that must break it."""

import dataclasses

import pytest
import torch
import transformers

from prunegrid.models import blocks, prunable
from prunegrid.pruning import dense_statistics, layerwise, pruner, recipe, replay
from prunegrid.pruning.recipe import Recipe
from tests.helpers.architectures import (
    ARCHITECTURES,
    UNTIED,
    build,
    by_output,
    flat,
    inputs_of,
    linears_inside,
    ties,
)
from tests.helpers.contract import (
    check_compensated,
    check_forward,
    check_linears,
    check_lowest_gone,
    check_moments,
    check_norms,
    check_orientation,
    check_pruned,
    check_saved,
    check_sequential,
    wanda_scores,
)
from tests.helpers.rounding import close

pytestmark = pytest.mark.model

ALL = pytest.mark.parametrize("name", ARCHITECTURES)
WANDA = Recipe("wanda", "2:4")


@pytest.fixture
def tokens():
    return torch.randint(2, 64, (4, 24), generator=torch.Generator().manual_seed(0))


@ALL
def test_every_matrix_of_every_block_is_prunable_and_nothing_else(name):
    check_linears(build(name), name)


@ALL
@torch.no_grad()
def test_weights_are_oriented_as_outputs_by_inputs(name, tokens):
    check_orientation(build(name), name, tokens)


@ALL
@torch.no_grad()
def test_block_by_block_equals_the_models_own_forward(name, tokens):
    check_forward(build(name), name, tokens)


@ALL
@torch.no_grad()
def test_calibration_sees_what_the_linears_are_given(name, tokens):
    check_norms(build(name), name, tokens)


@ALL
@torch.no_grad()
def test_means_and_variances_are_of_all_that_the_linears_are_given(name, tokens):
    """Of linears that are called several times, share an input, or share a weight, too."""
    check_moments(build(name), name, tokens)


@ALL
@torch.no_grad()
def test_pruned_saved_and_loaded_by_transformers(name, tokens, tmp_path):
    model = build(name)
    assert bool(ties(model)) == (name not in UNTIED)
    assert not ARCHITECTURES[name].own_head or "lm_head.weight" not in set().union(*ties(model))
    check_pruned(model, name, tokens, WANDA, "sequential")
    check_saved(model, name, tokens, tmp_path)


@ALL
@torch.no_grad()
def test_sequential_is_what_the_papers_do(name, tokens):
    check_sequential(build(name), name, tokens)


@pytest.mark.parametrize(
    ("method", "own"),
    [*((m, {}) for m in ("magnitude", "ria", "sparsegpt", "alps", "admm", "random")),
     ("stade", {"compensate": False})],
)  # fmt: skip
@ALL
@torch.no_grad()
def test_every_method_prunes_in_the_right_orientation(name, tokens, method, own):
    check_pruned(build(name), name, tokens, Recipe(method, "2:4", settings=own), "sequential")


@ALL
@torch.no_grad()
def test_biases_make_up_for_the_means_that_stade_takes(name, tokens):
    check_compensated(build(name), name, tokens)


@pytest.mark.parametrize("how", ["single-pass", "dense"])
@pytest.mark.parametrize("method", ["wanda", "sparsegpt"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "deberta-v3", "t5", "m2m100"])
@torch.no_grad()
def test_every_propagation_reaches_every_linear(name, tokens, how, method):
    model = build(name)
    if (method, how) == ("wanda", "dense"):
        norms = dense_statistics.dense_norms(model, tokens)
        report = layerwise.prune_model(model, WANDA, norms=norms, propagation=how)
        assert report.keys() == flat(linears_inside(model, name)).keys()
    else:
        check_pruned(model, name, tokens, Recipe(method, "2:4"), how)


# DeBERTa-v3 calls its q and k twice: see the next test.
@pytest.mark.parametrize(
    "name", [n for n in ARCHITECTURES if n not in ("deberta-v3", "deberta-v3-masked")]
)
@torch.no_grad()
def test_single_pass_uses_the_inputs_that_pruned_linears_give(name, tokens):
    """Run on the finished model, each linear's inputs are those by which it was pruned."""
    model = build(name)
    linears = flat(linears_inside(model, name))
    dense = {key: by_output(module).clone() for key, module in linears.items()}
    layerwise.prune_model(
        model, Recipe("wanda", sparsity=0.5), tokens=tokens, propagation="single-pass"
    )
    for key, given in inputs_of(model, linears, tokens).items():
        check_lowest_gone(wanda_scores(dense[key], given), by_output(linears[key]) == 0, key)


@pytest.mark.parametrize("name", ["deberta-v3", "deberta-v3-masked"])
@torch.no_grad()
def test_a_block_that_calls_a_linear_twice_is_pruned_sequentially(name, tokens):
    """So that what is known of the linear's inputs is all of them."""
    pruned = {}
    for how in ("single-pass", "sequential"):
        model = build(name)
        layerwise.prune_model(model, Recipe("wanda", sparsity=0.5), tokens=tokens, propagation=how)
        pruned[how] = model.state_dict()
    assert replay.Replay(model, blocks.find_blocks(model), tokens).repeating == {0, 1, 2}
    for key, value in pruned["sequential"].items():
        assert torch.equal(value, pruned["single-pass"][key]), key


@torch.no_grad()
def test_t5_in_half_precision_keeps_what_it_keeps_in_float32(tokens, tmp_path):
    build("t5-v1.1").save_pretrained(tmp_path / "whole")
    family = transformers.AutoModelForSeq2SeqLM
    model = family.from_pretrained(tmp_path / "whole", dtype=torch.float16)
    kept = {key for key, value in model.state_dict().items() if value.dtype == torch.float32}
    assert kept and all(key.endswith("wo.weight") for key in kept)
    check_pruned(model, "t5-v1.1", tokens, WANDA, "sequential")
    (tmp_path / "pruned").mkdir()
    check_saved(model, "t5-v1.1", tokens, tmp_path / "pruned")


@pytest.mark.parametrize("kind", ["t5", "m2m100"])
@torch.no_grad()
def test_linears_of_cross_attention_share_the_encoders_statistics(kind, tokens):
    model = build(kind)
    walked = replay.Replay(model, blocks.find_blocks(model), tokens)
    for index, block in enumerate(walked.blocks.names):
        found = walked.dense_stats(index, "hessian")
        cross = {k: v for k, v in found.items() if "EncDec" in k or "encoder_attn" in k}
        assert len(cross) == (4 if "decoder" in block else 0)
        if cross:
            key, value, query, out = (
                next(s for name, s in cross.items() if name.rpartition(".")[2][0] == letter)
                for letter in "kvqo"
            )
            assert key is value
            assert query is not key and out is not key


@torch.no_grad()
def test_a_linear_that_is_called_twice_has_the_statistics_of_both_calls(tokens):
    """DeBERTa-v3 gives its q and k the relative positions as well."""
    model, name = build("deberta-v3"), "deberta-v3"
    linears = flat(linears_inside(model, name))
    expected = inputs_of(model, linears, tokens)
    walked = replay.Replay(model, blocks.find_blocks(model), tokens)
    found = walked.dense_stats(0, "hessian")
    for key, stats in found.items():
        inputs = torch.cat(expected[key])
        assert stats.tokens == len(inputs)
        expected_hessian = 2 / len(inputs) * inputs.t() @ inputs
        magnitude = 2 / len(inputs) * inputs.t().abs() @ inputs.abs()
        assert close(stats.hessian, expected_hessian, len(inputs), magnitude)
    query, key, value = (
        found[f"encoder.layer.0.attention.self.{which}_proj"] for which in ("query", "key", "value")
    )
    assert query is key and value.tokens < key.tokens


# Planted faults: each must be found by the check that is there for it.


def transposed(module):
    return module.weight.detach()


@torch.no_grad()
def test_a_transposed_conv1d_is_found(monkeypatch, tokens):
    monkeypatch.setattr(blocks, "oriented", transposed)
    with pytest.raises(AssertionError):
        check_orientation(build("gpt2"), "gpt2", tokens)
    for module in (pruner, recipe, layerwise):
        monkeypatch.setattr(module, "oriented", transposed)
    with pytest.raises(AssertionError):
        check_pruned(build("gpt2"), "gpt2", tokens, Recipe("magnitude", "2:4"), "sequential")


@pytest.mark.parametrize(
    ("name", "skipped"), [("t5", "EncDecAttention.k"), ("m2m100", "encoder_attn.out_proj")]
)
@torch.no_grad()
def test_a_skipped_linear_of_cross_attention_is_found(monkeypatch, tokens, name, skipped):
    whole = blocks.linears_of

    def without(module):
        return {key: linear for key, linear in whole(module).items() if not key.endswith(skipped)}

    monkeypatch.setattr(blocks, "linears_of", without)
    with pytest.raises(AssertionError):
        check_linears(build(name), name)
    with pytest.raises(AssertionError):
        check_pruned(build(name), name, tokens, WANDA, "sequential")
    with pytest.raises(AssertionError):
        check_norms(build(name), name, tokens)


@pytest.mark.parametrize(
    ("name", "left_out"), [("bert", -1), ("t5", -1), ("m2m100", 2), ("llama", -1)]
)
@torch.no_grad()
def test_a_block_left_out_is_found(monkeypatch, tokens, name, left_out):
    whole = blocks.find_blocks

    def without(model, **named):
        found = whole(model, **named)
        names = [n for n in found.names if n != found.names[left_out]]
        modules = [m for m in found.modules if m is not found.modules[left_out]]
        return dataclasses.replace(
            found, names=names, modules=modules, linears={n: found.linears[n] for n in names}
        )

    for module in (blocks, prunable, dense_statistics):
        monkeypatch.setattr(module, "find_blocks", without)
    with pytest.raises(AssertionError):
        check_linears(build(name), name)
    with pytest.raises(AssertionError):
        check_forward(build(name), name, tokens)
    with pytest.raises(AssertionError):
        check_pruned(build(name), name, tokens, WANDA, "sequential")


@pytest.mark.parametrize("name", ["t5", "m2m100"])
@torch.no_grad()
def test_a_decoder_that_is_given_the_dense_encoders_output_is_found(monkeypatch, tokens, name):
    enter, dense = replay.Replay.enter, {}

    def early(self, sample, start, ended):
        if start == 0:
            enter(self, sample, 0, None)
            hidden = self.hidden[sample]
            for index in self._runs[0]:
                hidden = self._calls[sample][index].run(self.blocks.modules[index], hidden)
            dense[sample] = hidden
        else:
            enter(self, sample, start, dense[sample])

    monkeypatch.setattr(replay.Replay, "enter", early)
    check_forward(build(name), name, tokens)
    with pytest.raises(AssertionError):
        check_sequential(build(name), name, tokens)
