"""The oracle: what a checkpoint holds and computes, by torch, transformers and safetensors alone.

It imports nothing of the library, so a fault of the library cannot hide in it. Blocks are those
that `models.yaml` names; everything is computed for one row at a time, without padding or cache.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from torch import Tensor, nn

from tests.matrix import expert_oracle
from tests.matrix.checks import require
from tests.matrix.expert_oracle import Expert

AUTO = {
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "masked-lm": "AutoModelForMaskedLM",
}
# Losses in float32 are known to about 1e-6; a pad that is seen moves them by 1e-3 and more.
LOSS_TOLERANCE = 1e-4
# Logits as a share of the largest one.
LOGIT_TOLERANCE = 1e-3
NEAR_TIE = 1e-4
SMALLEST_MATRIX = 8
ROUTER = re.compile(r"\.(router(\..*)?|gate(\.(wg|down_proj|router_mlp\..*))?|shared_expert_gate)$")


@dataclass(frozen=True)
class Row:
    """One row of a data set as tokens: a prompt, and the response that is learned.

    Attributes:
        hidden: place → the token shown there, of a masked language model, which learns these alone.
    """

    prompt: list[int]
    response: list[int]
    hidden: dict[int, int] | None = None


def digest(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors.

    A tensor's own digest is over its dtype, shape and bytes (row-major, little-endian); that of all
    is over a line "name digest" for each name, in the order of the names.
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        own = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)} ".encode())
        own.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        total.update(f"{name} {own.hexdigest()}\n".encode())
    return total.hexdigest()


def read_files(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder's safetensors files, by their names in the files."""
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as handle:
            names = handle.keys()
            tensors |= {name: handle.get_tensor(name) for name in names}
    return tensors


def load(folder: Path, task: str) -> nn.Module:
    """Return the folder's model as plain transformers reads it.

    Raises:
        Mismatch: tensors are missing from the files, left over, or of another shape.
    """
    auto = getattr(transformers, AUTO[task])
    model, info = auto.from_pretrained(folder, dtype="auto", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(map(str, info[key]))
        require(not names, f"plain transformers has {key.replace('_', ' ')}: {names[:2]}")
    return without_cache(model.eval())


def without_cache(model: nn.Module) -> nn.Module:
    """Return the model, whose config and parts of it say that no cache is made."""
    for config in (model.config, *vars(model.config).values()):
        if hasattr(config, "to_dict") and hasattr(config, "use_cache"):
            config.use_cache = False
    return model


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors that are saved: of tied weights only one name counts."""
    unsaved = {*(getattr(model, "all_tied_weights_keys", None) or {})}
    unsaved |= {*(getattr(model, "_keys_to_ignore_on_save", None) or ())}
    return {name: value for name, value in model.state_dict().items() if name not in unsaved}


def is_conv1d(module: nn.Module) -> bool:
    """Return whether a module is GPT-2's Conv1D, which stores [d_in, d_out]."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf")


def weight_of(module: nn.Module | Expert) -> Tensor:
    """Return a linear's weight as a view [d_out, d_in]."""
    if isinstance(module, Expert):
        return module.oriented
    weight = module.weight.detach()
    return weight.t() if is_conv1d(module) else weight


def linears_by_block(
    model: nn.Module, lists: Sequence[str]
) -> dict[str, dict[str, nn.Module | Expert]]:
    """Return block → full name → linear, those of fused experts last; routers are left out.

    A linear that blocks share stands in the first.
    """
    groups, seen = {}, set()
    for parent in lists:
        for index, block in enumerate(model.get_submodule(parent)):
            name = f"{parent}.{index}"
            groups[name] = {}
            for inner, module in block.named_modules():
                matrix = isinstance(module, nn.Linear) or is_conv1d(module)
                if ROUTER.search(f".{inner}") or not matrix or module.weight.dim() != 2:
                    continue
                if id(module.weight) not in seen:
                    seen.add(id(module.weight))
                    groups[name][f"{name}.{inner}" if inner else name] = module
            experts = expert_oracle.experts_in(block).items()
            groups[name] |= {f"{name}.{inner}": expert for inner, expert in experts}
    return groups


def all_linears(model: nn.Module, lists: Sequence[str]) -> dict[str, nn.Module]:
    """Return full name → linear of all blocks."""
    groups = linears_by_block(model, lists).values()
    return {name: module for group in groups for name, module in group.items()}


def other_matrices(model: nn.Module, lists: Sequence[str]) -> dict[str, Tensor]:
    """Return full name → parameter [n, …, …] of the blocks: matrices that are in no linear.

    The heads of a block-diagonal matrix are such.
    """
    found = {}
    for parent in lists:
        for inner, module in model.get_submodule(parent).named_modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                continue
            for leaf, value in module.named_parameters(recurse=False):
                if leaf in expert_oracle.matrices(module):
                    continue
                if value.dim() == 3 and min(value.shape[1:]) >= SMALLEST_MATRIX:
                    found[f"{parent}.{inner}.{leaf}"] = value.detach()
    return found


def counts(
    model: nn.Module, lists: Sequence[str], uncalled: Collection[str] = ()
) -> dict[str, int]:
    """Return the counts of a weights record, counted on the model's own parameters.

    Linears that are `uncalled` were left dense, and count as not prunable.
    """
    parameters = list(model.parameters())
    every = all_linears(model, lists).items()
    linears = [weight_of(module) for name, module in every if name not in uncalled]
    return {
        "parameters": sum(p.numel() for p in parameters),
        "nonzero_parameters": sum(int(torch.count_nonzero(p)) for p in parameters),
        "prunable_parameters": sum(w.numel() for w in linears),
        "prunable_zeros": sum(int((w == 0).sum()) for w in linears),
    }


def start_token(model: nn.Module) -> int:
    """Return the token that an encoder-decoder's decoder begins with."""
    return model.config.decoder_start_token_id


def run(model: nn.Module, ids: Sequence[int], decoder: Sequence[int] | None = None) -> Tensor:
    """Return the logits [tokens, vocabulary] of one row, in float32, without a cache."""
    arguments = {"input_ids": torch.tensor([list(ids)])}
    if decoder is not None:
        arguments["decoder_input_ids"] = torch.tensor([list(decoder)])
    if "use_cache" in inspect.signature(model.forward).parameters:
        arguments["use_cache"] = False
    with torch.no_grad():
        return model(**arguments).logits[0].float()


def run_window(model: nn.Module, window: Sequence[int]) -> Tensor:
    """Return the logits of a calibration window; a decoder beside an encoder gets it shifted."""
    ids = [int(token) for token in window]
    shifted = [start_token(model), *ids[:-1]] if model.config.is_encoder_decoder else None
    return run(model, ids, shifted)


def inputs_of(
    model: nn.Module, linears: dict[str, nn.Module], windows: Tensor
) -> dict[str, Tensor]:
    """Return what each linear is given in the model's own forward, [tokens, d_in] in float64.

    A linear that the model never calls is left out, and an expert that no token reaches. Where
    other linears have the very same weight, what they are given counts too.
    """
    experts = {name: m for name, m in linears.items() if isinstance(m, Expert)}
    seen: dict[str, list[Tensor]] = {name: [] for name in linears}

    def record(name: str, args: tuple, kwargs: dict) -> None:
        given = args[0] if args else next(iter(kwargs.values()))
        seen[name].append(given.detach().flatten(0, -2).double())

    handles = [
        other.register_forward_pre_hook(
            lambda _m, args, kwargs, name=name: record(name, args, kwargs), with_kwargs=True
        )
        for name, module in linears.items()
        if name not in experts
        for other in model.modules()
        if getattr(other, "weight", None) is module.weight
    ]
    with expert_oracle.recording(experts, lambda name, given: record(name, (given,), {})):
        for window in windows:
            run_window(model, window)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items() if parts}


def summed_loss(logits: Tensor, targets: Sequence[int]) -> float:
    """Return the summed cross entropy (nats) of targets, given the logits that predict each."""
    chances = logits.double().log_softmax(-1)
    return -float(chances[torch.arange(len(targets)), torch.tensor(list(targets))].sum())


def is_causal(model: nn.Module, window: Sequence[int]) -> bool:
    """Return whether a window's first logits are the same without its last token."""
    whole, before = run(model, window)[:-1], run(model, window[:-1])
    return float((whole - before).abs().max()) <= LOGIT_TOLERANCE * float(whole.abs().max())


def window_loss(model: nn.Module, window: Sequence[int]) -> float:
    """Return the summed loss of all tokens of a window but the first."""
    return summed_loss(run(model, window)[:-1], window[1:])


def row_loss(model: nn.Module, row: Row) -> float:
    """Return the summed loss of a row's response, or of its hidden tokens."""
    if row.hidden is not None:
        tokens = row.prompt + row.response
        shown = [row.hidden.get(place, token) for place, token in enumerate(tokens)]
        places = list(row.hidden)
        return summed_loss(run(model, shown)[places], [tokens[place] for place in places])
    if model.config.is_encoder_decoder:
        logits = run(model, row.prompt, [start_token(model), *row.response[:-1]])
        return summed_loss(logits, row.response)
    logits = run(model, row.prompt + row.response)
    return summed_loss(logits[len(row.prompt) - 1 : -1], row.response)


def mean_loss(model: nn.Module, rows: Sequence[Row]) -> float:
    """Return the mean loss of the responses' tokens, or of the hidden ones, a row at a time."""
    counts = (len(row.response if row.hidden is None else row.hidden) for row in rows)
    return sum(row_loss(model, row) for row in rows) / sum(counts)


def greedy(
    model: nn.Module, prompt: Sequence[int], stop: int, most: int
) -> tuple[list[int], float]:
    """Return the likeliest tokens after a prompt, and the smallest gap between the best two.

    The stop token is left out. The gap is a share of the largest logit: below `NEAR_TIE` rounding
    may choose another token.
    """
    beside, ids = model.config.is_encoder_decoder, list(prompt)
    made, smallest = [], float("inf")
    while len(made) < most:
        decoder = [start_token(model), *made] if beside else None
        logits = run(model, ids if beside else ids + made, decoder)[-1]
        best = logits.topk(2)
        gap = float(best.values[0] - best.values[1]) / max(float(logits.abs().max()), 1e-9)
        smallest = min(smallest, gap)
        if int(best.indices[0]) == stop:
            break
        made.append(int(best.indices[0]))
    return made, smallest


def require_same_logits(what: str, found: Tensor, expected: Tensor) -> None:
    """Check that logits are equal up to rounding."""
    require(bool(torch.isfinite(found).all()), f"{what}: the logits are not finite")
    apart = float((found - expected).abs().max()) / max(float(expected.abs().max()), 1e-9)
    require(apart <= LOGIT_TOLERANCE, f"{what}: the logits differ from the oracle's")
