"""Fine-tuning and changing tiny weights through the stages."""

from __future__ import annotations

import torch
from safetensors.torch import save_file

from prunegrid.finetuning.strategies import reconstruct
from prunegrid.models import (
    blocks,
    checkpoint,
    open_checkpoint,
)
from prunegrid.stages import finetune, transform
from tests.helpers import tiny


def tune(tmp_path, parent, strategy, name="out", **changes):
    """Return (record, folder) of one finetune step."""
    data = tmp_path / "data"
    if not data.exists():
        tiny.data(data)
    out = tmp_path / name
    out.mkdir()
    settings = tiny.finetune(strategy, **changes)
    record = finetune.run(settings, {"weights": parent, "data": data}, out, tiny.job())
    tiny.finish(out, record["weights"])
    return record, out


def tune_pruned(tmp_path, strategy, name="out", **changes):
    """Return (record, folder) of tuning a 2:4 model for one epoch."""
    parent = tmp_path / "parent"
    if not parent.exists():
        tiny.artifact(parent, "llama", "2:4")
    return tune(tmp_path, parent, strategy, name, epochs=1, **changes)


def weights(folder):
    """Return the prunable weights of a plain folder by name."""
    model = checkpoint.read_model(folder)
    return {name: blocks.oriented(m) for name, m in blocks.prunable(model).items()}


PATTERNS = ("unstructured", "2:4", "4:8")
KINDS = ("opt", "llama", "gpt2")
REFIT = {"strategy": "reconstruct"} | reconstruct.SETTINGS


def change(tmp_path, parent, name="out", parents=None, **settings):
    """Return (record, folder) of one transform step."""
    out = tmp_path / name
    out.mkdir()
    record = transform.run(settings, {"weights": parent, **(parents or {})}, out, tiny.job())
    tiny.finish(out, record["weights"])
    return record, out


def calibration(folder, samples=8, length=16):
    """Return a calibration artifact of random windows."""
    folder.mkdir()
    draw = torch.Generator().manual_seed(1)
    tokens = torch.randint(3, 40, (samples, length), generator=draw)
    save_file({"tokens": tokens}, folder / "tokens.safetensors")
    return folder


def masks_of(parent):
    """Return where a plain folder's prunable weights are not zero."""
    return {name: weight != 0 for name, weight in weights(parent).items()}


def places(folder):
    """Return {name: (base, base + adapter)} of any folder's prunable weights, copied."""
    loaded = open_checkpoint.load(folder)
    return {name: (base.clone(), both.clone()) for name, base, both in loaded.weights()}
