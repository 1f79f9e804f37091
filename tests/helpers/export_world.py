"""Small weights artifacts of every form, and a process without prunegrid that loads folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy
import torch

from prunegrid.models import (
    checkpoint,
    masked_lora,
    open_checkpoint,
    quantized,
    split_checkpoint,
)
from tests.helpers import expert_models, shrunken, tiny, tiny_translators

IDS = [[3, 9, 4, 11, 7, 5]]
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0}
# Loads each folder as its card says; prunegrid cannot be imported.
LOADER = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "prunegrid":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import numpy, torch, transformers

ids, folders, out = json.loads(sys.argv[1])
logits = {}
for name, (auto, folder) in folders.items():
    model = getattr(transformers, auto).from_pretrained(folder, dtype="auto")
    given = {"input_ids": torch.tensor(ids)}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = torch.tensor(ids)
    with torch.no_grad():
        logits[name] = model.eval()(**given).logits[0].float().numpy()
assert not any(name.startswith("prunegrid") for name in sys.modules)
numpy.savez(out, **logits)
"""


def logits_without_prunegrid(
    folders: Mapping[str, Path], scratch: Path
) -> dict[str, numpy.ndarray]:
    """Return the logits of each folder, as transformers alone loads it in another process."""
    named = {
        name: (
            "AutoModelForSeq2SeqLM" if name == "encoder-decoder" else "AutoModelForCausalLM",
            str(folder),
        )
        for name, folder in folders.items()
    }
    out = scratch / "logits.npz"
    outside = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOADER, json.dumps([IDS, named, str(out)])],
        cwd=scratch,
        env=outside | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(numpy.load(out))


def own_logits(folder: Path) -> numpy.ndarray:
    """Return the logits of an artifact as an evaluation computes them."""
    model = open_checkpoint.load(folder, compute_dtype="float32").model
    given = {"input_ids": torch.tensor(IDS)}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = torch.tensor(IDS)
    with torch.no_grad():
        return model(**given).logits[0].float().numpy()


def artifact(folder: Path, form: str) -> Path:
    """Return a weights artifact of a form."""
    return FORMS[form](folder)


def _structured(folder: Path) -> Path:
    whole = shrunken.artifact(folder.with_name(f"{folder.name}-whole"), shrunken.drawn("llama"))
    shrunken.shrink(folder, whole, None, method="random", units=["mlp"], sparsity=0.5)
    return folder


def _experts(folder: Path) -> Path:
    folder.mkdir(parents=True)
    model = expert_models.build("mixtral")
    tiny.prune_(model, "2:4")
    tiny.finish(folder, checkpoint.write_plain(model, None, folder, "2:4").record)
    return folder


def _quantized(folder: Path, kind: str) -> torch.nn.Module:
    whole = tiny.artifact(folder.with_name(f"{folder.name}-whole"), "llama", "2:4")
    return quantized.quantize(whole, "cpu", kind, double_quant=True)


def _adapted(
    folder: Path, model: torch.nn.Module, masked: bool, dtype: torch.dtype | None = None
) -> Path:
    """Write a model with an adapter beside it, its second factor drawn; the base in a dtype."""
    names = [n for n, _ in model.named_modules() if n.endswith(("q_proj", "c_fc", "down_proj"))]
    masks = {}
    if masked:
        masks = {name: weight != 0 for name, weight, _ in split_checkpoint.weights_of(model, names)}
    wrapped = masked_lora.wrap(model, names, masks, LORA)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    folder.mkdir(parents=True)
    saved = split_checkpoint.save(wrapped, tiny.tokenizer(), folder, "2:4", dtype=dtype)
    tiny.finish(folder, saved.record)
    return folder


def _plainly_quantized(folder: Path, kind: str) -> Path:
    model = _quantized(folder, kind)
    folder.mkdir(parents=True)
    saved = split_checkpoint.save(model, tiny.tokenizer(), folder, "2:4", adapter="none")
    tiny.finish(folder, saved.record)
    return folder


def _pruned(kind: str) -> torch.nn.Module:
    model = tiny.model(kind)
    tiny.prune_(model, "2:4")
    return model


FORMS: dict[str, Callable[[Path], Path]] = {
    "decoder": lambda folder: tiny.artifact(folder, "llama", "2:4"),
    "encoder-decoder": lambda folder: tiny_translators.weights(folder, pattern="2:4"),
    "structured": _structured,
    "experts": _experts,
    "nf4": lambda folder: _plainly_quantized(folder, "nf4"),
    "int8": lambda folder: _plainly_quantized(folder, "int8"),
    "adapter": lambda folder: _adapted(folder, _pruned("llama"), masked=False),
    "nf4-adapter": lambda folder: _adapted(folder, _quantized(folder, "nf4"), masked=False),
    "masked": lambda folder: _adapted(folder, _pruned("gpt2"), masked=True),
    "bfloat16-masked": lambda folder: _adapted(
        folder, _pruned("llama"), masked=True, dtype=torch.bfloat16
    ),
    "nf4-masked": lambda folder: _adapted(folder, _quantized(folder, "nf4"), masked=True),
}
