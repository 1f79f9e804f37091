"""Weights on disk and in memory: one way to load them, one way to save them, one record of both.

A weights artifact is either a *plain* folder (config, safetensors, tokenizer, as any
`from_pretrained` reads it) or a folder *in parts* (packed weights, or an adapter beside its base;
see `prunegrid.parts`). The record of a checkpoint is measured on the tensors in memory, after
loading, and can be compared with the record that its manifest holds: that comparison is what ties
a score to the weights that produced it.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from prunegrid import artifacts
from prunegrid import attest as attestation
from prunegrid.errors import AttestationError, PrunegridError
from prunegrid.extent import BLOCKS_ONLY, Extent
from prunegrid.loading import is_of, of_task, read_model, read_tokenizer

log = logging.getLogger(__name__)

PARTS = ("base", "adapter")


@dataclass
class Checkpoint:
    """A loaded model with what was measured on it.

    Attributes:
        model: in eval mode, on its device.
        tokenizer: None where the folder holds none.
        tensors: every tensor that the model computes with, by its canonical name.
        record: the WEIGHTS RECORD (see `measure`).
        weights: gives (name, base weight, base and adapter summed), each [d_out, d_in], of every
            prunable linear.
    """

    model: nn.Module
    tokenizer: Any
    tensors: dict[str, Tensor] = field(repr=False)
    record: dict
    weights: Callable[[], Iterator[tuple[str, Tensor, Tensor]]] = field(repr=False)


def plain_weights(model: nn.Module, extent: Extent) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the prunable tensors of a plain model as `Checkpoint.weights` does."""
    for name, weight in extent.tensors(extent.linears(model)).items():
        yield name, weight, weight


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
    """Return the folder's checkpoint, measured in memory.

    Args:
        folder: a weights artifact.
        device: "cpu" or "cuda:0".
        attest: compare what was measured with the record in the folder's manifest.
        read: reads the folder; `read_plain` by default, `parts.read` for one in parts.

    Raises:
        AttestationError: the weights in memory are not the ones that the manifest records.
        PrunegridError: a file is missing, truncated, or holds NaN or infinite weights.
    """
    folder = Path(folder)
    manifest = folder / artifacts.MANIFEST
    recorded = {}
    if attest or manifest.exists():
        recorded = artifacts.read_json(manifest).get("record", {}).get("weights", {})
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
    """Return the checkpoint of a plain folder, with a record measured in memory."""
    check_files(folder)
    model = read_model(folder).to(device)
    tensors = attestation.model_tensors(model)
    size = file_bytes(folder)
    record = measure_plain(model, tensors, pattern, adapter, size, str(folder), extent)
    weights = functools.partial(plain_weights, model, extent)
    return Checkpoint(model, read_tokenizer(folder), tensors, record, weights)


def measure_plain(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    pattern: str | None,
    adapter: str,
    file_bytes: int,
    where: str,
    extent: Extent = BLOCKS_ONLY,
) -> dict:
    """Return the WEIGHTS RECORD of a model that is neither quantized nor wrapped.

    Of a model that is no causal language model (a metric's encoder) the blocks need not be found:
    its counts of prunable weights are None then.

    Raises:
        PrunegridError: a causal language model's blocks cannot be found, or weights are not finite.
    """
    parameters = dict(model.named_parameters())
    linears = _linears(model, extent)
    total = sum(p.numel() for p in parameters.values())
    nonzero = sum(int(torch.count_nonzero(p)) for p in parameters.values())
    weights = [*(linears or {}).values(), *parameters.values()]
    return measure(
        tensors,
        linears,
        pattern=pattern,
        precision=str(weights[0].dtype).removeprefix("torch."),
        adapter=adapter,
        parameters=total,
        nonzero=nonzero,
        file_bytes=file_bytes,
        where=where,
        extent=extent,
    )


def _linears(model: nn.Module, extent: Extent) -> dict[str, Tensor] | None:
    """Return full name → prunable tensor [d_out, d_in]; None: no blocks to find."""
    try:
        modules = extent.linears(model)
    except PrunegridError:
        if is_of(of_task("causal-lm"), [type(model).__name__]):
            raise
        return None
    return extent.tensors(modules)


def measure(
    tensors: Mapping[str, Tensor],
    linears: Mapping[str, Tensor] | None,
    *,
    pattern: str | None,
    precision: str,
    adapter: str,
    parameters: int,
    nonzero: int,
    file_bytes: int,
    where: str,
    effective_zeros: int | None = None,
    extent: Extent = BLOCKS_ONLY,
) -> dict:
    """Return the WEIGHTS RECORD: digest, counts and sparsity, all counted on the tensors given.

    Args:
        tensors: every tensor that the model computes with, by canonical name.
        linears: prunable base weights (dequantized), each [d_out, d_in]; None: not known.
        pattern: "unstructured", "N:M" or None, inherited from the pruning step.
        parameters: logical count: packed weights once, adapters included, masks excluded.
        effective_zeros: zeros of base + adapter delta; None where there is no separate adapter.
        extent: what `linears` holds beside those of the blocks.

    Raises:
        PrunegridError: a tensor holds NaN or infinity.
        AttestationError: `file_bytes` are not those of the tensors.
    """
    held = 0
    for name, tensor in tensors.items():
        held += tensor.numel() * tensor.element_size()
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise PrunegridError(
                f"the tensor {name} holds NaN or infinite values",
                where=where,
                expected="finite weights",
                remedy="the model is broken: use another file or revision of it",
            )
    _require_size(file_bytes, held, len(tensors), where)
    facts = dict.fromkeys(
        ("prunable_parameters", "prunable_zeros", "sparsity_prunable", "nm_valid")
    )
    effective = None
    if linears is not None:
        facts = attestation.sparsity_facts(linears, pattern)
        zeros = facts["prunable_zeros"] if effective_zeros is None else effective_zeros
        effective = zeros / facts["prunable_parameters"] if facts["prunable_parameters"] else 0.0
    return {
        "sha256": attestation.weights_sha256(tensors),
        "pattern": pattern,
        **extent.record(),
        "precision": precision,
        "adapter": adapter,
        "parameters": parameters,
        "nonzero_parameters": nonzero,
        **facts,
        "sparsity_effective": effective,
        "sparsity_model": 1 - nonzero / parameters,
        "file_bytes": file_bytes,
    }


def _require_size(file_bytes: int, held: int, tensors: int, where: str) -> None:
    """Check that the files hold each tensor once, their headers apart.

    Raises:
        AttestationError: they are smaller or larger: a second copy (or a link to one) was counted.
    """
    # A safetensors header has a line of JSON a tensor, and padding.
    if not held <= file_bytes <= held + 1024 * (tensors + 8):
        raise AttestationError(
            f"the weight files hold {file_bytes} bytes",
            where=where,
            expected=f"the {held} bytes of its tensors, each counted once, and headers",
            remedy="there are two copies of some weights, or not all: delete it and run again",
        )


def save_plain(
    model: nn.Module,
    tokenizer: Any,
    out: Path,
    pattern: str | None,
    adapter: str = "none",
    extent: Extent = BLOCKS_ONLY,
    *,
    spent: bool = False,
) -> dict:
    """Return the WEIGHTS RECORD of the plain folder that was written (see `write_plain`)."""
    return write_plain(model, tokenizer, out, pattern, adapter, extent, spent=spent).record


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
    """Return the checkpoint of the plain folder that was written, read back and measured.

    Args:
        model: neither quantized nor wrapped by peft; on any device.
        tokenizer: saved beside it; None saves none.
        out: an existing folder.
        pattern: what the model was pruned to: "unstructured", "N:M" or None.
        adapter: "merged" where an adapter was merged into these weights.
        extent: what counts as prunable.
        spent: the model is of no use after this: its memory is given back before the folder is
            read, so that two models are never held.

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
    size = sum(t.numel() * t.element_size() for t in attestation.model_tensors(model).values())
    artifacts.require_space(out, size + 2**20)
    try:
        model.save_pretrained(out)
    except SafetensorError as error:
        if "space left" in str(error) or "os error 28" in str(error):
            raise OSError(errno.ENOSPC, str(error), str(out)) from error
        raise


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files that loading the folder reads, in order of their names."""
    folder = Path(folder)
    places = [folder] + [folder / part for part in PARTS]
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
            "no safetensors file" if not files else f"no {config.name}",
            where=str(folder),
            expected="a model folder as save_pretrained writes it",
            remedy="point to such a folder, or delete it and run again",
        )
    for path in files:
        try:
            with safe_open(path, framework="pt"):
                pass
        except SafetensorError as error:
            raise PrunegridError(
                f"not a whole safetensors file ({error})",
                where=str(path),
                remedy="it was truncated or damaged: delete it and download or run again",
            ) from error


def file_weights_sha256(folder: Path) -> str:
    """Return the weights digest computed from the files alone, without building a model.

    It equals `record["sha256"]` of the same folder: the same names, dtypes, shapes and bytes.
    """
    check_files(folder)
    folder, digests = Path(folder), {}
    for path in weight_files(folder):
        part = path.parent.name if path.parent != folder else ""
        prefix = f"{part}/" if part else ("masks/" if is_in_parts(folder) else "")
        with safe_open(path, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 - not a dict: it cannot be iterated
                digests[prefix + name] = handle.get_tensor(name)
    return attestation.weights_sha256(digests)
