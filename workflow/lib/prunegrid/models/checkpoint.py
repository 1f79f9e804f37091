"""Weights on disk and in memory: one way to load them, one way to save them.

A weights artifact is a *plain* folder (config, safetensors, tokenizer, as any `from_pretrained`
reads it) or a folder *in parts* (packed weights, or an adapter beside its base; see
`prunegrid.models.split_checkpoint`). The record of a checkpoint is measured on the tensors in
memory. Comparing it with the record in the manifest ties a score to the weights that produced it.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.models import attestation, weights_record
from prunegrid.models.blocks import weights_in_memory
from prunegrid.models.loading import read_model, read_tokenizer
from prunegrid.models.prunable import BLOCKS_ONLY, Extent
from prunegrid.models.weight_files import LazyTensors, open_safetensors

log = logging.getLogger(__name__)


@dataclass
class Checkpoint:
    """A loaded model with what was measured on it.

    Attributes:
        model: in eval mode, on its device.
        tokenizer: None where the folder holds none.
        tensors: every tensor that the model computes with, by its canonical name.
        record: the WEIGHTS RECORD (see `prunegrid.models.weights_record`).
        weights: gives (name, base weight, base + adapter), each [d_out, d_in], of every prunable
            tensor and of the linears of blocks that were left dense.
    """

    model: nn.Module
    tokenizer: Any
    tensors: dict[str, Tensor] = field(repr=False)
    record: dict
    weights: Callable[[], Iterator[tuple[str, Tensor, Tensor]]] = field(repr=False)


def is_in_parts(folder: Path) -> bool:
    """Return whether the folder holds packed weights, or an adapter beside its base."""
    return (Path(folder) / "base").is_dir()


def require_plain(folder: Path, where: str) -> None:
    """Check that a step that changes weights is given plain ones.

    Raises:
        PrunegridError: they are packed, or have an adapter beside them.
    """
    if is_in_parts(folder):
        raise PrunegridError(
            "the weights are packed, or have an adapter beside them",
            where=where,
            expected="plain weights",
            remedy="put steps that end in such weights last in the chain",
        )


def load(
    folder: Path,
    device: str = "cpu",
    attest: bool = True,
    read: Callable[[Path, str, str | None, str, Extent], Checkpoint] | None = None,
) -> Checkpoint:
    """Return the checkpoint of a weights artifact, measured in memory.

    Args:
        device: "cpu" or "cuda:0".
        attest: compare the measured record with the one in the folder's manifest.
        read: reads the folder; None: `read_plain`.

    Raises:
        AttestationError: the weights in memory are not the ones that the manifest records.
        PrunegridError: a file is missing, truncated, or holds NaN or infinite weights.
    """
    folder = Path(folder)
    manifest = folder / artifact_folder.MANIFEST
    recorded = {}
    if attest or manifest.exists():
        recorded = file_io.read_json(manifest).get("record", {}).get("weights", {})
    pattern, adapter = recorded.get("pattern"), recorded.get("adapter", "none")
    checkpoint = (read or read_plain)(folder, device, pattern, adapter, Extent.of(recorded))
    if attest:
        attestation.require_same(checkpoint.record, recorded, str(folder))
        log.info("%s: weights %s attested", folder, checkpoint.record["sha256"][:12])
    return checkpoint


def read_plain(
    folder: Path,
    device: str,
    pattern: str | None,
    adapter: str,
    extent: Extent = BLOCKS_ONLY,
) -> Checkpoint:
    """Return the checkpoint of a plain folder, measured in memory (see `write_plain`)."""
    check_files(folder)
    model = read_model(folder).to(device)
    tensors = attestation.model_tensors(model)
    size = file_bytes(folder)
    record = weights_record.measure_plain(
        model, tensors, pattern, adapter, size, str(folder), extent
    )

    def weights() -> Iterator[tuple[str, Tensor, Tensor]]:
        linears = weights_in_memory(extent.all_linears(model))
        for name, weight in {**linears, **extent.tensors(extent.linears(model))}.items():
            yield name, weight, weight

    return Checkpoint(model, read_tokenizer(folder, model), tensors, record, weights)


def write_plain(
    model: nn.Module,
    tokenizer: Any,
    out: Path,
    pattern: str | None,
    adapter: str = "none",
    extent: Extent = BLOCKS_ONLY,
    *,
    spent: bool = False,
) -> Checkpoint:
    """Write a plain folder; return its checkpoint, read back and measured.

    Args:
        model: neither quantized nor wrapped by peft; on any device.
        tokenizer: None saves none.
        out: an existing folder.
        pattern: to which the model was pruned: "unstructured", "N:M" or None.
        adapter: "merged" where an adapter was merged into these weights, else "none".
        extent: which weights are prunable.
        spent: nobody uses the model after this: free its memory before the folder is read, so that
            two models are never in memory.

    Raises:
        PrunegridError: the disk is too full, or the weights are not finite.
    """
    out = Path(out)
    save_model(model, out)
    if tokenizer is not None:
        tokenizer.save_pretrained(out)
    if spent:
        model.to("meta")
    return read_plain(out, "cpu", pattern, adapter, extent)


def save_model(model: nn.Module, out: Path) -> None:
    """Write config, generation config and safetensors of a model into `out`.

    Raises:
        PrunegridError: they do not fit on the disk.
    """
    size = sum(tensor.nbytes for tensor in attestation.model_tensors(model).values())
    artifact_folder.require_space(out, size + 2**20)
    try:
        # Under the model's own names: the default is those of its first release (Pythia's head).
        model.save_pretrained(out, save_original_format=False)
    except SafetensorError as error:
        if "space left" in str(error) or "os error 28" in str(error):
            raise OSError(errno.ENOSPC, str(error), str(out)) from error
        raise


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files that loading the folder reads, in order of their names."""
    folder = Path(folder)
    places = (folder, folder / "base", folder / "adapter")
    return [path for place in places for path in sorted(place.glob("*.safetensors"))]


def file_bytes(folder: Path) -> int:
    """Return the sum of the sizes of the folder's weight files, each counted once."""
    return sum(path.stat().st_size for path in weight_files(folder))


def check_files(folder: Path) -> None:
    """Check that the folder holds whole safetensors files and a config.

    Raises:
        PrunegridError: one is missing or truncated.
    """
    files = weight_files(folder)
    config = Path(folder) / ("base/config.json" if is_in_parts(folder) else "config.json")
    if not files or not config.exists():
        raise PrunegridError(
            f"no {config.name}" if files else "no safetensors file",
            where=str(folder),
            expected="a model folder as save_pretrained writes it",
            remedy="point to such a folder, or delete it and run again",
        )
    for path in files:
        with open_safetensors(path):
            pass


def stored_tensors(folder: Path) -> LazyTensors:
    """Return the tensors of a plain folder by name, each read when it is asked for.

    Raises:
        PrunegridError: a file is missing or truncated.
    """
    check_files(folder)
    return LazyTensors(weight_files(folder))


def file_weights_sha256(folder: Path) -> str:
    """Return the weights digest computed from the files alone, without building a model.

    It equals `record["sha256"]` of the same folder: the same names, dtypes, shapes and bytes.
    """
    check_files(folder)
    folder, digests = Path(folder), {}
    for path in weight_files(folder):
        part = path.parent.name if path.parent != folder else ""
        prefix = f"{part}/" if part else ("masks/" if is_in_parts(folder) else "")
        for name, tensor in LazyTensors([path]).items():
            digests[prefix + name] = attestation.tensor_sha256(tensor)
    return attestation.combined_sha256(digests)
