"""Small models that lose units, and the same models with those units made powerless by hand.

Nothing here asks the library which weights belong to a unit: the names stand in a table.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.models import checkpoint
from prunegrid.pruning.structured import stage
from tests.helpers.architectures import build

LLAMA_MLP = (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj")
LLAMA_HEADS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
LLAMA = {"blocks": "model.layers", "mlp": LLAMA_MLP, "heads": LLAMA_HEADS}
OPT = {"blocks": "model.decoder.layers", "mlp": (("fc1",), "fc2")}
# Name of the blocks' list; linears that write neurons and the one that reads them; q, k, v and o.
NAMES = {
    "llama": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
    "olmo": LLAMA,
    "olmo2": LLAMA,
    "opt-125m": OPT,
    "opt-350m": OPT,
    "gpt2": {"blocks": "transformer.h", "mlp": (("mlp.c_fc",), "mlp.c_proj")},
    "gpt-neox": {
        "blocks": "gpt_neox.layers",
        "mlp": (("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"),
    },
}
# Of the small models: 2 groups of 2 query heads, 4 channels each; 3 blocks.
HEAD, QUERIES, BLOCKS = 4, 2, 3


def artifact(folder: Path, model: nn.Module) -> Path:
    """Return a weights artifact of a model."""
    folder.mkdir(parents=True)
    record = checkpoint.write_plain(model, None, folder, None).record
    file_io.write_json(folder / artifact_folder.MANIFEST, {"record": {"weights": record}})
    return folder


def windows(samples: int = 6, length: int = 24) -> Tensor:
    return torch.randint(2, 64, (samples, length), generator=torch.Generator().manual_seed(0))


def calibration(folder: Path, tokens: Tensor) -> Path:
    folder.mkdir(parents=True)
    save_file({"tokens": tokens}, folder / "tokens.safetensors")
    return folder


def settings(method: str, units: list[str], sparsity: float, **changes) -> dict:
    """Return the settings of a step of pattern structured."""
    plain = {"multiple": 1, "update": "none", "update_settings": {}, "pattern": "structured"}
    return {**plain, "method": method, "units": sorted(units), "sparsity": sparsity, **changes}


def job(scratch: Path) -> SimpleNamespace:
    return SimpleNamespace(
        device="cpu",
        compute_dtype="float32",
        where="test",
        scratch=scratch,
        memory={"model": "whole", "activations": "device", "chunk": 8},
        seed=lambda purpose: 3,
    )


def shrink(folder: Path, weights: Path, tokens: Tensor | None, **asked) -> tuple[dict, dict]:
    """Return (record, prune.json) of removing units; the new artifact is in `folder`."""
    folder.mkdir(parents=True)
    parents = {"weights": weights}
    if tokens is not None:
        parents["calibration"] = calibration(folder.with_name(f"{folder.name}-calibration"), tokens)
    record = stage.run(settings(**asked), parents, folder, job(folder / "scratch"))
    file_io.write_json(folder / artifact_folder.MANIFEST, {"record": record})
    return record, file_io.read_json(folder / "prune.json")


def powerless(name: str, story: dict, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Return the full model in which the units that `story` lists do nothing, by hand."""
    model, names = build(name).to(dtype), NAMES[name]
    modules = dict(model.named_modules())
    for block, kinds in story["blocks"].items():
        for kind, facts in kinds.items():
            gone = facts["indices"]
            if kind == "mlp":
                writing, reading = names["mlp"]
                for linear in writing:
                    _zero_rows(modules[f"{block}.{linear}"], gone)
                _zero_columns(modules[f"{block}.{reading}"], gone)
            elif kind == "heads":
                query, key, value, output = (modules[f"{block}.{n}"] for n in names["heads"])
                of_query = [HEAD * QUERIES * g + i for g in gone for i in range(HEAD * QUERIES)]
                of_key = [HEAD * g + i for g in gone for i in range(HEAD)]
                for linear, rows in ((query, of_query), (key, of_key), (value, of_key)):
                    _zero_rows(linear, rows)
                _zero_columns(output, of_query)
            elif gone:
                pass_by(modules[block])
    return model


@torch.no_grad()
def _zero_rows(linear: nn.Module, rows: list[int]) -> None:
    by_output = linear.weight.t() if type(linear).__name__ == "Conv1D" else linear.weight
    by_output[rows] = 0
    if linear.bias is not None:
        linear.bias[rows] = 0


@torch.no_grad()
def _zero_columns(linear: nn.Module, columns: list[int]) -> None:
    by_output = linear.weight.t() if type(linear).__name__ == "Conv1D" else linear.weight
    by_output[:, columns] = 0


def pass_by(block: nn.Module) -> None:
    """Let a block hand on what it is given, in place."""
    before = block.forward

    def forward(*args, **kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        made = before(*args, **kwargs)
        return (hidden, *made[1:]) if isinstance(made, tuple) else hidden

    block.forward = forward


SMALL = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}
SMALL |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def drawn(kind: str, auto: str = "AutoModelForCausalLM", faint: tuple = (), **sizes) -> nn.Module:
    """Return a small model of a kind with noise on all parameters, in eval mode.

    Args:
        faint: parts of names; matrices with one of them are so small that their units score lowest.
        sizes: settings beside those of SMALL; None takes one of those away.
    """
    given = {key: value for key, value in {**SMALL, **sizes}.items() if value is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(kind, **given)
        model = getattr(transformers, auto).from_config(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter += 0.06 * torch.randn_like(parameter)
                if parameter.dim() > 1 and any(part in name for part in faint):
                    parameter *= 0.1
    return model.eval()
