"""The form in which a timing runs a cell's weights: dense, or packed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from prunegrid.common.errors import AttestationError
from prunegrid.models import checkpoint

IN_PARTS = "the weights are quantized, or have an adapter beside them"
ON_GPU = "packed weights run on the CPU alone"
LOSSLESS = ("exact", "float32")
DENSE = {"form": "dense", "values": None, "kernel": None, "reason": None}


def load(
    folder: Path, packed: Mapping[str, Any] | None, device: str
) -> tuple[nn.Module | None, dict[str, Any]]:
    """Return (the packed model or None, facts of the form in which the weights run).

    Facts are form, values (of packed linears, joined by '+'; None where none gains by it), kernel
    (None where none could be built: linears are dense then), reason (why the form is dense), and of
    a packed model linears, linears_dense, resident_bytes.

    Args:
        folder: a weights artifact.
        packed: {values, kernel} as the key has them; None asks for dense weights.

    Raises:
        PrunegridError: this CPU does not have the kernel.
        AttestationError: the weights in memory are not the folder's.
    """
    if packed is None:
        return None, DENSE
    reason = IN_PARTS if checkpoint.is_in_parts(folder) else ON_GPU if device != "cpu" else None
    if reason:
        return None, DENSE | {"reason": reason}
    # Imported here: a timing of dense weights needs none of it.
    from prunegrid.models.packed import operators, packed_model

    kernel = packed["kernel"] and operators.load(packed["kernel"])
    model = packed_model.open_packed(folder, packed["values"], kernel)
    held = model.packed_weights
    if held.values in LOSSLESS and held.dense_sha256() != held.sha256:
        raise AttestationError(
            "the packed weights in memory are not those of the folder", where=str(folder)
        )
    forms = [one.form for one in held.forms.values()]
    values = {one.values for one in held.forms.values() if one.form == "mask"}
    return model, {
        "form": "packed",
        "values": "+".join(sorted(values)) or None,
        "kernel": kernel,
        "reason": None,
        "linears": forms.count("mask"),
        "linears_dense": forms.count("dense"),
        "resident_bytes": held.resident_bytes(),
    }
