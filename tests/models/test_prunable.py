"""What a profile adds to the linears of blocks: projections outside of them, and biases."""

import gc
import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.utils import prune as torch_prune
from transformers import AutoModelForCausalLM, OPTForCausalLM

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import blocks, checkpoint
from prunegrid.models.attestation import nm_violations
from prunegrid.models.prunable import Extent
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe
from prunegrid.stages import calibration, hessians, prune
from tests.helpers.architectures import build, inputs_of
from tests.helpers.pruning_jobs import (
    BY_BLOCK,
    SAMPLES,
    SPARSEGPT,
    WANDA,
    Job,
    record_of,
    write_artifact,
    write_model,
)
from tests.helpers.pruning_jobs import parents as parents  # a fixture

pytestmark = pytest.mark.model

BOTH = ["*.project_in", "*.project_out"]
PROJECTIONS = Extent(tuple(BOTH))
NAMES = {f"model.decoder.{name}" for name in ("project_in", "project_out")}
HALF = {"pattern": "unstructured", "sparsity": 0.5}
MAGNITUDE = {**WANDA, **HALF, "method": "magnitude"}


@pytest.fixture
def tokens():
    return torch.randint(2, 64, (4, 24), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("how", ["sequential", "single-pass", "dense"])
@torch.no_grad()
def test_projections_are_pruned_by_the_inputs_that_they_get(tokens, how):
    """project_in by the embeddings, project_out by the pruned blocks' output (dense: the dense)."""
    dense = build("opt-350m")
    outside = {n: m for n, m in blocks.linears_of(dense).items() if n in NAMES}
    weights = {name: module.weight.clone() for name, module in outside.items()}
    given = inputs_of(dense, outside, tokens)
    model = build("opt-350m")
    recipe = Recipe("wanda", sparsity=0.5, extent=PROJECTIONS)
    norms = None
    if how == "dense":
        linears = blocks.prunable(model)
        seen = inputs_of(model, linears, tokens)
        norms = {name: torch.cat(seen[name]).square().mean(0) for name in linears}
    report = prune_model(model, recipe, tokens=tokens, norms=norms, propagation=how)
    assert report.keys() == blocks.prunable(model, include=BOTH).keys()
    if how != "dense":
        given = inputs_of(model, {n: model.get_submodule(n) for n in NAMES}, tokens)
    for name, weight in weights.items():
        scores = weight.abs() * torch.cat(given[name]).square().mean(0).sqrt()
        worst = scores.argsort(dim=1, stable=True)[:, : scores.shape[1] // 2]
        kept = torch.ones_like(scores).scatter(1, worst, 0).bool()
        assert torch.equal(model.get_submodule(name).weight != 0, kept), name


@torch.no_grad()
def test_blocks_see_what_the_pruned_projection_gives(tokens):
    """Pruned with project_in, the first block is what it is after project_in was pruned by hand."""
    model, by_hand = build("opt-350m"), build("opt-350m")
    prune_model(model, Recipe("wanda", "2:4", extent=Extent(("*.project_in",))), tokens=tokens)
    name = "model.decoder.project_in"
    by_hand.get_submodule(name).weight.copy_(model.get_submodule(name).weight)
    prune_model(by_hand, Recipe("wanda", "2:4"), tokens=tokens)
    for key, value in by_hand.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key


@torch.no_grad()
def test_a_scope_of_the_whole_model_ranks_them_too():
    dense, model = build("opt-350m"), build("opt-350m")
    recipe = Recipe("magnitude", sparsity=0.5, scope="model", extent=PROJECTIONS)
    prune_model(model, recipe)
    every = blocks.prunable(dense, include=BOTH)
    flat = torch.cat([module.weight.abs().flatten() for module in every.values()])
    cut = flat.kthvalue(flat.numel() // 2).values
    for name, module in every.items():
        assert torch.equal(model.get_submodule(name).weight != 0, module.weight.abs() > cut)


@pytest.mark.parametrize("name", ["gpt2", "opt-125m", "bert", "t5"])
@torch.no_grad()
def test_biases_are_pruned_as_torch_prunes_each_tensor(name):
    dense, model = build(name), build(name)
    report = prune_model(model, Recipe("magnitude", sparsity=0.5, extent=Extent(biases=True)))
    counted = 0
    for key, module in blocks.prunable(dense).items():
        for part in ("weight", "bias"):
            if getattr(module, part) is None:
                continue
            torch_prune.l1_unstructured(module, part, amount=0.5)
            mine = getattr(model.get_submodule(key), part)
            assert torch.equal(mine, getattr(module, part)), (key, part)
            counted += int((mine == 0).sum())
    assert sum(facts["zeros"] for facts in report.values()) == counted


@pytest.fixture(scope="module")
def opt(parents, tmp_path_factory):
    """A dense OPT with projections, and its calibration."""
    place = tmp_path_factory.mktemp("extent")
    torch.manual_seed(0)
    from transformers import OPTConfig

    sizes = {"hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 16}
    config = OPTConfig(
        vocab_size=260, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128,
        do_layer_norm_before=False, **sizes,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    folder = write_model(place / "model", model)
    sources = {"model": folder, "data": parents["data"]}
    made = write_artifact(
        place / "calibration", lambda out: calibration.run(SAMPLES, sources, out, Job(place))
    )
    return folder, made


def run(place, opt, settings, memory=None):
    """Return a cell: of settings that need them, by Hessians held in memory as the cell is."""
    job = Job(place / "scratch", **({"memory": memory} if memory else {}))
    sources = {"weights": opt[0], "calibration": opt[1]}
    if settings["method"] == "sparsegpt" and settings["propagation"] == "dense":
        asked, dense = {"include": settings["include"]}, {"model": opt[0], "calibration": opt[1]}
        sources["hessians"] = write_artifact(
            place / "hessians", lambda out: hessians.run(asked, dense, out, job)
        )
    return write_artifact(place / "out", lambda out: prune.run(settings, sources, out, job))


CASES = [
    {**MAGNITUDE, "include": BOTH, "biases": True},
    {**MAGNITUDE, "include": [], "biases": True},
    {**MAGNITUDE, "include": BOTH, "biases": False},
    {**SPARSEGPT, "propagation": "dense", "include": BOTH},
    {**WANDA, "propagation": "dense", "include": BOTH},
]


@pytest.mark.parametrize("settings", CASES, ids=range(len(CASES)))
def test_the_record_counts_what_was_pruned_and_travels_with_it(tmp_path, opt, settings):
    whole = run(tmp_path / "whole", opt, settings)
    weights = record_of(whole)["weights"]
    report = json.loads((whole / "prune.json").read_text())
    tensors = {k: v for path in whole.glob("*.safetensors") for k, v in load_file(path).items()}
    zeros = total = 0
    for name in report:
        tensor = tensors[name if name.endswith(".bias") else f"{name}.weight"]
        zeros, total = zeros + int((tensor == 0).sum()), total + tensor.numel()
    assert any(name in NAMES for name in report) == bool(settings["include"])
    assert weights["prunable_zeros"] == zeros and weights["prunable_parameters"] == total
    assert weights["sparsity_prunable"] == pytest.approx(0.5, abs=2e-3)
    if settings["pattern"] == "2:4":
        assert weights["nm_valid"]
        assert not any(nm_violations(tensors[f"{name}.weight"], 2, 4) for name in report)
    assert checkpoint.load(whole).record == weights
    part = run(tmp_path / "part", opt, settings, BY_BLOCK)
    second = record_of(part)["weights"]
    assert {**weights, "file_bytes": 0} == {**second, "file_bytes": 0}
    assert checkpoint.load(part).record == second
    files = sorted(path.name for path in part.glob("model-*.safetensors"))
    assert files[-1] == f"model-{len(files):05}-of-{len(files):05}.safetensors"


def test_a_record_that_forgets_the_extent_is_noticed(tmp_path, opt):
    out = run(tmp_path, opt, CASES[0])
    path = out / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["record"]["weights"]["include"] = []
    path.write_text(json.dumps(manifest))
    with pytest.raises(AttestationError):
        checkpoint.load(out)


def test_without_calibration_samples_it_says_so():
    with pytest.raises(PrunegridError, match="needs calibration samples"):
        prune_model(build("opt-350m"), Recipe("wanda", "2:4", extent=PROJECTIONS))


def test_a_pruned_model_is_let_go_before_its_folder_is_read(tmp_path, opt, monkeypatch):
    """Two models at once would be the step's peak."""
    held = []
    read = checkpoint.read_model

    def look(folder):
        models = [o for o in gc.get_objects() if type(o) is OPTForCausalLM]
        inside = (p for m in models for p in m.parameters() if p.device.type != "meta")
        held.append(sum(p.numel() for p in inside))
        return read(folder)

    monkeypatch.setattr(checkpoint, "read_model", look)
    gc.collect()
    run(tmp_path, opt, CASES[2])
    assert len(held) == 2 and held[1] <= held[0]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (Recipe("wanda", "2:4", extent=Extent(biases=True)), "cannot prune biases"),
        (Recipe("magnitude", "2:4", extent=Extent(biases=True)), "cannot prune biases"),
        (Recipe("magnitude", "2:4", extent=Extent(("*.projekt",))), "names no linear.*project_in"),
        (Recipe("magnitude", "2:4", extent=Extent(("lm_head",))), "that of the embeddings"),
    ],
)
def test_refused(tokens, recipe, said):
    with pytest.raises(PrunegridError, match=said):
        prune_model(build("opt-350m"), recipe, tokens=tokens)


def test_a_linear_between_blocks_is_refused_where_inputs_are_needed(tokens):
    """The encoder's norm-like projection runs between the encoder's and the decoder's blocks."""
    model = build("t5")
    norm = model.encoder.final_layer_norm
    model.encoder.final_layer_norm = torch.nn.Sequential(norm, torch.nn.Linear(16, 16))
    extent = Extent(("encoder.final_layer_norm.1",))
    with pytest.raises(PrunegridError, match="runs between blocks"):
        prune_model(model, Recipe("wanda", "2:4", extent=extent), tokens=tokens)


def test_by_block_cannot_give_the_inputs_behind_the_last_block(tmp_path, opt):
    settings = {**WANDA, "include": BOTH}
    run(tmp_path / "whole", opt, settings)
    with pytest.raises(PrunegridError, match=r"project_out.*not held whole.*memory\.model"):
        run(tmp_path / "part", opt, settings, BY_BLOCK)
