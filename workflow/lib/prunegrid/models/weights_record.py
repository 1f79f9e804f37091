"""The WEIGHTS RECORD of a model: digest, counts and sparsity, measured on its tensors.

It is measured wherever weights are written or loaded. The manifest of the step that made them holds
it, and it must be the same again before they are used.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.models import attestation
from prunegrid.models.loading import is_of, of_task
from prunegrid.models.prunable import BLOCKS_ONLY, Extent


def measure_plain(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    pattern: str | None,
    adapter: str,
    file_bytes: int,
    where: str,
    extent: Extent = BLOCKS_ONLY,
    linears: Mapping[str, Tensor] | None = None,
) -> dict:
    """Return the WEIGHTS RECORD of a model that is neither quantized nor wrapped.

    The counts of prunable weights are None where a model that is no causal language model (a
    metric's encoder) has no blocks that can be found.

    Args:
        tensors: of its files; the model's own weights need not be in memory where they have all.
        linears: its prunable tensors, each [d_out, d_in]; None: those in memory.

    Raises:
        PrunegridError: a causal language model's blocks cannot be found, or weights are not finite.
    """
    linears = _linears(model, extent) if linears is None else linears
    shares = None if linears is None else extent.shares(model)
    total = nonzero = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        nonzero += int(torch.count_nonzero(tensors.get(name, parameter)))
    first = next(iter(linears.values() if linears else model.parameters()))
    return measure(
        tensors,
        linears,
        pattern=pattern,
        precision=str(first.dtype).removeprefix("torch."),
        adapter=adapter,
        parameters=total,
        nonzero=nonzero,
        file_bytes=file_bytes,
        where=where,
        extent=extent,
        shares=shares,
    )


def _linears(model: nn.Module, extent: Extent) -> dict[str, Tensor] | None:
    """Return the prunable tensors [d_out, d_in] by name; None where there are no blocks to find."""
    try:
        modules = extent.linears(model)
    except PrunegridError:
        if is_of(of_task("causal-lm"), [type(model).__name__], model.config):
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
    shares: Mapping[str, float] | None = None,
) -> dict:
    """Return the WEIGHTS RECORD: digest, counts and sparsity, all counted on the tensors given.

    Args:
        tensors: every tensor that the model computes with, by canonical name.
        linears: prunable base weights (dequantized), each [d_out, d_in]; None: not known.
        pattern: "unstructured", "N:M" or None, inherited from the pruning step.
        parameters: logical count: packed weights once, adapters included, masks excluded.
        effective_zeros: zeros of base + adapter; None where no adapter is separate.
        extent: of `linears`.
        shares: see `Extent.shares`; None where the blocks are not known.

    Raises:
        PrunegridError: a tensor holds NaN or infinity.
        AttestationError: `file_bytes` are not those of the tensors.
    """
    attestation.require_finite(tensors, where)
    size = sum(tensor.nbytes for tensor in tensors.values())
    require_size(file_bytes, size, len(tensors), where)
    facts = _sparsity(linears, pattern, effective_zeros)
    return {
        "sha256": attestation.weights_sha256(tensors),
        "pattern": pattern,
        **extent.record(),
        "precision": precision,
        "adapter": adapter,
        "parameters": parameters,
        "nonzero_parameters": nonzero,
        **facts,
        "sparsity_model": 1 - nonzero / parameters,
        **(shares or dict.fromkeys(attestation.SHARES)),
        "removed_prunable": _removed(facts["prunable_parameters"], extent.prunable_before),
        "removed_total": _removed(parameters, extent.parameters_before),
        "file_bytes": file_bytes,
    }


def _sparsity(
    linears: Mapping[str, Tensor] | None, pattern: str | None, effective_zeros: int | None
) -> dict:
    """Return `attestation.sparsity_facts` and sparsity_effective; all None without linears."""
    names = ("prunable_parameters", "prunable_zeros", "sparsity_prunable", "nm_valid")
    if linears is None:
        return dict.fromkeys((*names, "sparsity_effective"))
    facts = attestation.sparsity_facts(linears, pattern)
    zeros = facts["prunable_zeros"] if effective_zeros is None else effective_zeros
    parameters = facts["prunable_parameters"]
    return facts | {"sparsity_effective": zeros / parameters if parameters else 0.0}


def _removed(count: int | None, before: int | None) -> float | None:
    """Return the share of the dense model's weights that is gone; None without their count."""
    return None if count is None or before is None else 1 - count / before


def require_size(file_bytes: int, tensor_bytes: int, tensors: int, where: str) -> None:
    """Check that the files hold each tensor once, headers aside.

    Raises:
        AttestationError: they are smaller or larger: a second copy (or a link to one) was counted.
    """
    # A safetensors header has a line of JSON for each tensor, and padding.
    if not tensor_bytes <= file_bytes <= tensor_bytes + 1024 * (tensors + 8):
        raise AttestationError(
            f"the weight files hold {file_bytes} bytes",
            where=where,
            expected=f"the {tensor_bytes} bytes of its tensors, each counted once, and headers",
            remedy="there are two copies of some weights, or not all: delete it and run again",
        )
