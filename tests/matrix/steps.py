"""The steps of the matrix up to pruning: each tries one stage of the library on one model.

A step returns nothing where the oracle agrees. An early clear refusal is the library's own
`PrunegridError`; anything else that is raised is a fault.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from prunegrid.common import file_io
from prunegrid.stages import calibration, prune
from tests.helpers import masked_experts, shrunken, tiny
from tests.helpers.pruning_jobs import SPARSEGPT, WANDA
from tests.matrix import oracle, pruning_oracle
from tests.matrix.checks import require, require_close, require_digest, require_equal, require_names
from tests.matrix.subjects import LENGTH, SAMPLES, Subject
from tests.matrix.verdicts import Untried

MAGNITUDE = {"method": "magnitude", "pattern": "2:4", "sparsity": None, "scope": None}
WANDA_HALF = {**WANDA, "pattern": "unstructured", "sparsity": 0.5}
# The share of the prunable weights that units are to take; whole units come nearest to it.
SHARES = {"mlp": 0.2, "heads": 0.12, "blocks": 0.25}
# Of each block's experts.
EXPERTS = 0.25


def check_plain(subject: Subject, folder: Path, record: dict) -> nn.Module:
    """Return a plain folder's model, after its digest and counts were compared with the record."""
    model = subject.plain(folder)
    require_digest("the weights", record["sha256"], oracle.digest(oracle.named_tensors(model)))
    facts = oracle.counts(model, subject.blocks, record.get("uncalled", ()))
    for key, value in facts.items():
        if record[key] is not None:
            require_equal(key, record[key], value)
    if facts["prunable_parameters"] and record["sparsity_prunable"] is not None:
        share = facts["prunable_zeros"] / facts["prunable_parameters"]
        require_equal("sparsity_prunable", record["sparsity_prunable"], share)
    return model


def import_model(subject: Subject) -> None:
    """The library's import gives the very tensors, and what they compute."""
    folder, record = subject.imported()
    source, model = subject.plain(), check_plain(subject, folder, record)
    require(type(model) is type(source), "the class of the model has changed")
    window = subject.windows()[0]
    before, after = oracle.named_tensors(source), oracle.named_tensors(model)
    pruning_oracle.require_others_unchanged(before, after, set())
    expected = oracle.run_window(source, window)
    oracle.require_same_logits("import", oracle.run_window(model, window), expected)


def norms(subject: Subject) -> None:
    """The calibration measures the norms of what linears are given in the model's own forward."""
    parents = {"model": subject.dense(), "data": subject.data()}
    folder = subject.new_folder("norms")
    settings = {"samples": SAMPLES, "length": LENGTH, "split": "text", "column": "text"}
    calibration.run({**settings, "join": True}, parents, folder, subject.job())
    tokens = load_file(folder / "tokens.safetensors")["tokens"]
    require_equal("the windows' shape", list(tokens.shape), [SAMPLES, LENGTH])
    measured = load_file(folder / "input_norms.safetensors")
    model = subject.plain()
    given = oracle.inputs_of(model, oracle.all_linears(model, subject.blocks), tokens)
    for name in measured.keys() - given.keys():
        if name.rpartition(".")[2].isdigit():  # an expert that no token reaches
            given[name] = torch.ones(1, len(measured[name]), dtype=torch.float64)
    require_names("norms", measured, given)
    for name, inputs in given.items():
        expected = inputs.square().mean(0)
        largest = expected.abs().max().clamp(min=1e-12)
        apart = float((measured[name] - expected).abs().max() / largest)
        require(apart <= 1e-4, f"the norms of {name} are not those of its inputs")


def run_prune(subject: Subject, name: str, settings: dict, **memory) -> tuple[Path, dict]:
    """Return the folder and the weights record of one prune step on the dense artifact."""
    parents = {"weights": subject.dense()}
    if settings["method"] != "magnitude":
        parents["calibration"] = subject.calibration()
    folder = subject.new_folder(name)
    record = prune.run(settings, parents, folder, subject.job(**memory))
    file_io.write_json(folder.with_suffix(".record"), record)
    tiny.finish(folder, record["weights"])
    return folder, record["weights"]


def check_pruned(subject: Subject, folder: Path, record: dict) -> tuple[nn.Module, nn.Module]:
    """Return the models before and after pruning; nothing but the linears has changed."""
    before, after = subject.plain(), check_plain(subject, folder, record)
    linears = oracle.all_linears(before, subject.blocks)
    names = {name for name, value in before.state_dict().items()}
    pointers = {module.weight.data_ptr() for module in linears.values()}
    changed = {n for n in names if before.state_dict()[n].data_ptr() in pointers}
    pruning_oracle.require_others_unchanged(
        oracle.named_tensors(before), oracle.named_tensors(after), changed
    )
    return before, after


def check_left_out(subject: Subject, model: nn.Module, folder: Path) -> None:
    """Matrices that are in no linear are pruned, or the record names them."""
    said = folder.with_suffix(".record").read_text()
    left = {
        name: value
        for name, value in oracle.other_matrices(model, subject.blocks).items()
        if int((value == 0).sum()) * 4 < value.numel() and name not in said
    }
    linears = oracle.counts(model, subject.blocks)["prunable_parameters"]
    count = sum(value.numel() for value in left.values())
    share = round(100 * count / (count + linears)) if count else 0
    leaves = ", ".join(sorted({name.rpartition(".")[2] for name in left}))
    require(not left, f"{share}% of the blocks' matrices stay dense, unsaid: {leaves}")


def magnitude(subject: Subject) -> None:
    """The two smallest of four input columns go, the others stay as they are."""
    folder, record = run_prune(subject, "magnitude", MAGNITUDE)
    before, after = check_pruned(subject, folder, record)
    linears = oracle.all_linears(after, subject.blocks)
    for name, module in oracle.all_linears(before, subject.blocks).items():
        old, new = oracle.weight_of(module), oracle.weight_of(linears[name])
        pruning_oracle.require_nm(name, new, 2, 4)
        pruning_oracle.require_magnitude(name, old, new, 4)
    require(record["nm_valid"] is True, "the record does not say that 2:4 is valid")
    check_left_out(subject, after, folder)


def wanda(subject: Subject) -> None:
    """The lowest scores of each row go, by inputs that the model pruned so far gives."""
    folder, record = run_prune(subject, "wanda", WANDA_HALF)
    before, after = check_pruned(subject, folder, record)
    for name, old, new, inputs in pruning_oracle.walk(
        before, subject.blocks, after, subject.windows()
    ):
        pruning_oracle.require_wanda(name, old, new, inputs)
    check_left_out(subject, after, folder)


def whole_sparsegpt(subject: Subject) -> tuple[Path, dict]:
    """Return SparseGPT's 2:4 of a model that is held whole."""
    return subject.once("sparsegpt", lambda: run_prune(subject, "sparsegpt", SPARSEGPT))


def sparsegpt(subject: Subject) -> None:
    """Masks and weights are those of the paper's algorithm in float64."""
    folder, record = whole_sparsegpt(subject)
    before, after = check_pruned(subject, folder, record)
    report = file_io.read_json(folder / "prune.json")
    for name, old, new, inputs in pruning_oracle.walk(
        before, subject.blocks, after, subject.windows()
    ):
        pruning_oracle.require_nm(name, new, 2, 4)
        used = report[name].get("dampening", pruning_oracle.DAMPENING)
        pruning_oracle.require_sparsegpt(name, old, new, inputs, used)
    check_left_out(subject, after, folder)


def by_block(subject: Subject) -> None:
    """With one block in memory at a time the bytes are those of a model held whole."""
    subject.dense()
    memory = {"model": "by-block", "activations": "disk", "chunk": 4}
    folder, record = run_prune(subject, "by-block", SPARSEGPT, **memory)
    check_plain(subject, folder, record)
    try:
        whole, _ = whole_sparsegpt(subject)
    except Exception as error:
        raise Untried("SparseGPT of the whole model has a fault") from error
    found, expected = (oracle.digest(oracle.read_files(place)) for place in (folder, whole))
    require_digest("the files by block", found, expected)


def structured(subject: Subject, unit: str) -> None:
    """What is left computes what the full model does when its lost units give nothing."""
    settings = shrunken.settings("magnitude", [unit], SHARES[unit])
    folder, record = run_prune(subject, f"less-{unit}", settings)
    small, full = check_plain(subject, folder, record), subject.plain()
    sizes = [oracle.counts(model, subject.blocks) for model in (small, full)]
    removed = 1 - sizes[0]["prunable_parameters"] / sizes[1]["prunable_parameters"]
    require(removed > 0, "no weight was removed")
    require_close("removed_prunable", record["removed_prunable"], removed, 1e-6)
    gone = file_io.read_json(folder / "prune.json")["blocks"]
    silence(subject, full, small, gone, unit)
    for window in subject.windows()[:2]:
        expected = oracle.run_window(full, window)
        oracle.require_same_logits("smaller model", oracle.run_window(small, window), expected)
    prompt = [int(token) for token in subject.windows()[0, :8]]
    if writes_alike(subject.plain(), prompt):
        require(writes_alike(small, prompt), "the smaller model cannot write with a cache")


@torch.no_grad()
def experts(subject: Subject) -> None:
    """Without the experts of the lowest REAP scores it computes what a router that cannot choose
    them gives."""
    settings = shrunken.settings("reap", ["experts"], EXPERTS)
    folder, record = run_prune(subject, "fewer-experts", settings)
    small, full = check_plain(subject, folder, record), subject.plain()
    sizes = [sum(p.numel() for p in model.parameters()) for model in (small, full)]
    require(record["parameters"] == sizes[0] < sizes[1], "no expert was removed")
    gone = masked_experts.gone_of(file_io.read_json(folder / "prune.json"))
    for window in subject.windows()[:2]:
        with masked_experts.masked(full, small, gone):
            expected = oracle.run_window(full, window)
        oracle.require_same_logits("smaller model", oracle.run_window(small, window), expected)
    prompt = [int(token) for token in subject.windows()[0, :8]]
    if writes_alike(subject.plain(), prompt):
        require(writes_alike(small, prompt), "the smaller model cannot write with a cache")


@torch.no_grad()
def silence(subject: Subject, full: nn.Module, small: nn.Module, gone: dict, unit: str) -> None:
    """Let the units that went give nothing, in the full model: by zeros in what reads them."""
    if unit == "blocks":
        for block, kinds in gone.items():
            if kinds[unit]["removed"]:
                pass_by(full.get_submodule(block))
        return
    smaller = oracle.all_linears(small, subject.blocks)
    for block, linears in oracle.linears_by_block(full, subject.blocks).items():
        units = gone[block][unit]["indices"]
        for name, module in linears.items():
            weight, other = oracle.weight_of(module), oracle.weight_of(smaller[name])
            lost = weight.shape[1] - other.shape[1]
            if lost and weight.shape[0] == other.shape[0]:
                width = lost // len(units)
                columns = [width * index + place for index in units for place in range(width)]
                weight[:, columns] = 0


def pass_by(block: nn.Module) -> None:
    """Let a block hand on what it is given."""
    own = block.forward

    def forward(*args, **kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        output = own(*args, **kwargs)
        return hidden if isinstance(output, torch.Tensor) else (hidden, *output[1:])

    block.forward = forward


def writes_alike(model: nn.Module, prompt: list[int]) -> bool:
    """Return whether plain transformers writes with a cache what the model says without one."""
    if not model.can_generate() or model.config.is_encoder_decoder:
        return False
    expected, gap = oracle.greedy(model, prompt, stop=-1, most=4)
    model.generation_config.eos_token_id = None
    settings = {"max_new_tokens": 4, "do_sample": False, "use_cache": True, "pad_token_id": 1}
    try:
        made = model.generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist()
    except Exception:  # from anywhere in a model's code
        return False
    return made == expected or gap < oracle.NEAR_TIE
