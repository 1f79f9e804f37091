"""The tensors of a checkpoint as one plain model would hold them, adapter and 4-bit code undone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from prunegrid.models import blocks
from prunegrid.models.checkpoint import Checkpoint
from prunegrid.models.experts import ExpertLinear, linear_named, stored_name
from prunegrid.models.forward import inner
from prunegrid.models.prunable import Extent


@dataclass(frozen=True)
class Plain:
    """A checkpoint's tensors on the CPU, tied weights once.

    Attributes:
        tensors: by their names in a plain model's files.
        linears: names of the weights of the blocks' linears (of fused experts the whole tensor's),
            and of others that are prunable → whether it is stored as [d_in, d_out].
    """

    tensors: dict[str, Tensor]
    linears: dict[str, bool]


def of(loaded: Checkpoint) -> Plain:
    """Return the tensors of a checkpoint.

    Of a base in code (NF4, int8), or with an adapter beside it, a linear's weight is the
    sum that it multiplies with, base + adapter as [d_out, d_in], in the dtype of the weights that
    are not packed: memory for all of them is taken. Else the model's own memory is shared.
    """
    held = loaded.tensors
    if not any(name.startswith("base/") for name in held):
        extent = Extent.of(loaded.record)
        linears = {
            stored_name(name, module): blocks.is_transposed(module)
            for name, module in extent.all_linears(loaded.model).items()
        }
        return Plain({name: tensor.detach().cpu() for name, tensor in held.items()}, linears)
    loaded.model.eval()  # drops sums that were kept for generation
    sums = {name: total for name, _, total in loaded.weights()}
    code = tuple(f"{name}.{part}" for name in sums for part in ("weight", "SCB"))
    base = {n.removeprefix("base/"): t for n, t in held.items() if n.startswith("base/")}
    tensors = {n: t.detach().cpu() for n, t in base.items() if not n.startswith(code)}
    dtype = next(t.dtype for t in tensors.values() if t.is_floating_point())
    # Fused experts are neither in code nor adapted: their tensors are there.
    linears = {name: linear_named(inner(loaded.model), name) for name in sums}
    experts = {name: m for name, m in linears.items() if isinstance(m, ExpertLinear)}
    others = {f"{n}.weight": t.to(dtype).cpu() for n, t in sums.items() if n not in experts}
    fused = {stored_name(name, expert): expert.flipped for name, expert in experts.items()}
    return Plain(tensors | others, dict.fromkeys(others, False) | fused)
