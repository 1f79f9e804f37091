"""The forms in which a weights artifact is exported, so that transformers alone loads it.

`plain`: the artifact's own files. `quantized`: NF4 or int8 weights, which transformers loads with
bitsandbytes. `adapter`: a base and a LoRA adapter in one folder, which transformers loads with
peft. `summed`: an adapter under a pruning mask. peft has no such mask, so the folder's model is the
sum that was evaluated, and the parts lie whole in `parts/`. `packed`: without zeros; `prunegrid
unpack` makes a plain folder of it.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.model_files import ADAPTER, CONFIG_FILES, of_folder
from prunegrid.models import checkpoint, loading, open_checkpoint, split_checkpoint
from prunegrid.models.blocks import is_transposed
from prunegrid.models.packed import packed_checkpoint, plain_tensors
from prunegrid.models.prunable import Extent

PARTS = "parts"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def write(
    folder: Path, out: Path, compute_dtype: str, *, packed: bool = False, repo: str | None = None
) -> dict[str, Any]:
    """Write the files of a weights artifact into `out`; return how they make up its model.

    Args:
        folder: the artifact, whole.
        out: an existing folder.
        compute_dtype: in which the model was evaluated.
        packed: leave the zeros out (`prunegrid pack`).
        repo: the repository that the folder goes to, by which a hub's adapter finds its base.

    Returns:
        {form, models: a list of {files: {its place in the artifact: its name in `out`}, weights:
        the WEIGHTS RECORD}}, the evaluated weights first.

    Raises:
        PrunegridError: the disk is too full, or the weights cannot be written so.
    """
    record = file_io.read_json(folder / artifact_folder.MANIFEST)["record"]["weights"]
    if packed:
        packed_checkpoint.pack(folder, out / PARTS)
        for path in sorted((out / PARTS).iterdir()):
            path.rename(out / path.name)
        (out / PARTS).rmdir()
        return {"form": "packed", "models": [{"files": {}, "weights": record}]}
    places = artifact_files(folder)
    size = sum((folder / place).stat().st_size for place in places)
    artifact_folder.require_space(out, size + 2**20)
    masked = split_checkpoint.MASKS in places
    files = {place: f"{PARTS}/{place}" if masked else Path(place).name for place in places}
    for place, name in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / place, out / name)
    models = [{"files": files, "weights": record}]
    if masked:
        models.append(_write_sum(folder, out, compute_dtype))
        return {"form": "summed", "models": models}
    if ADAPTER not in files.values():
        return {
            "form": "quantized" if checkpoint.is_in_parts(folder) else "plain",
            "models": models,
        }
    # With the config of its base beside it transformers reads the base there, whatever this says.
    about = file_io.read_json(out / ADAPTER) | {"base_model_name_or_path": repo or "."}
    file_io.write_json(out / ADAPTER, about)
    return {"form": "adapter", "models": models}


def artifact_files(folder: Path) -> list[str]:
    """Return the files of a weights artifact that loading it reads, relative to its folder."""
    if not checkpoint.is_in_parts(folder):
        return sorted(of_folder(folder, str(folder)))
    names = {f"base/{name}" for name in of_folder(folder / "base", str(folder))}
    wanted = (*CONFIG_FILES, split_checkpoint.MASKS)
    wanted += tuple(f"adapter/{name}" for name in (ADAPTER, ADAPTER_WEIGHTS))
    return sorted(names | {name for name in wanted if (folder / name).is_file()})


def _write_sum(folder: Path, out: Path, compute_dtype: str) -> dict[str, Any]:
    """Write base + masked adapter as one plain model; return its entry among the models.

    Its tensors have the dtype in which the model was evaluated (or a wider one of their own), so
    that it multiplies with the same weights.
    """
    loaded = open_checkpoint.load(folder, compute_dtype=compute_dtype)
    widened = {n: loading.widened(t, compute_dtype) for n, t in loaded.tensors.items()}
    tensors = dict(plain_tensors.of(replace(loaded, tensors=widened)).tensors)
    config, extent = loading.read_config(folder / "base"), Extent.of(loaded.record)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        kind = loading.auto_class(loading.kind_of(config))
        skeleton = kind.from_config(config, trust_remote_code=False)
    for name, linear in extent.all_linears(skeleton).items():
        weight = f"{name}.weight"  # experts in one tensor keep their layout
        if is_transposed(linear) and weight in tensors:
            tensors[weight] = tensors[weight].t()
    config.dtype = next(t.dtype for t in tensors.values() if t.is_floating_point())
    config.save_pretrained(out)
    artifact_folder.require_space(out, sum(t.nbytes for t in tensors.values()) + 2**20)
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(plain, out / "model.safetensors", {"format": "pt"})
    names = [name for name in CONFIG_FILES if name != "config.json"]
    for place in (folder, folder / "base"):
        for name in names:
            if (place / name).is_file():
                shutil.copyfile(place / name, out / name)
    pattern = loaded.record["pattern"]
    del loaded, widened, tensors, plain
    record = checkpoint.read_plain(out, "cpu", pattern, "merged", extent).record
    return {"files": {name: name for name in sorted(of_folder(out, str(out)))}, "weights": record}
