"""A GPU's sparse kernels for 2:4 weights, by torch's semi-structured tensors.

They multiply 2:4 weights at up to twice the dense rate on cards of compute capability 8.0 and
later. They are used for plain linears of the blocks, in float16 or bfloat16, whose shape both of
torch's backends (CUTLASS and cuSPARSELt) accept. All other linears stay dense.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models import attestation, blocks

log = logging.getLogger(__name__)

LEAST_CAPABILITY = (8, 0)
DTYPES = (torch.float16, torch.bfloat16)
ROWS, COLUMNS = 32, 64  # d_out and d_in must be multiples of these
# Largest difference from the dense product, as a share of its largest entry: kernels sum in
# another order.
TOLERANCE = 0.02


def fits(linear: nn.Module) -> bool:
    """Return whether a linear's kind, dtype, shape and zeros allow a sparse kernel."""
    # Subclasses do not fit: those of bitsandbytes hold no plain weight.
    if type(linear) is not nn.Linear or linear.weight.dtype not in DTYPES:
        return False
    rows, columns = linear.weight.shape
    if rows % ROWS or columns % COLUMNS:
        return False
    return attestation.nm_violations(linear.weight, 2, 4) == 0


def allowed(device: str) -> bool:
    """Return whether the device has kernels for 2:4."""
    if not device.startswith("cuda"):
        return False
    return torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


@contextlib.contextmanager
def running(model: nn.Module, device: str) -> Iterator[int | None]:
    """Run all linears that fit by sparse kernels inside the context; yield how many there are.

    The first product of each linear is compared with the dense one. Without such kernels on the
    device, yield None.

    Args:
        model: plain (no adapters), on `device`.

    Raises:
        PrunegridError: a sparse kernel's product is wrong.
    """
    if not allowed(device):
        yield None
        return
    dense: dict[nn.Module, nn.Parameter] = {}
    try:
        if not any(hasattr(module, "lora_A") for module in model.modules()):
            for name, linear in blocks.prunable(model).items():
                if fits(linear):
                    _swap(name, linear, dense)
        yield len(dense)
    finally:
        for linear, weight in dense.items():
            linear.weight = weight


def _swap(name: str, linear: nn.Linear, dense: dict[nn.Module, nn.Parameter]) -> None:
    """Give a linear a semi-structured weight, and add its dense one to `dense`."""
    weight = linear.weight
    with torch.inference_mode():
        inputs = _probe(weight)
        expected = linear(inputs)
    try:
        sparse = torch.sparse.to_sparse_semi_structured(weight.detach())
        linear.weight = nn.Parameter(sparse, requires_grad=False)
        dense[linear] = weight
        with torch.inference_mode():
            product = linear(inputs)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        # Backends have conditions beyond those that `fits` checks.
        log.warning("%s stays dense: %s", name, error)
        linear.weight = weight
        dense.pop(linear, None)
        return
    difference = float((product - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    if not difference <= TOLERANCE:
        raise PrunegridError(
            f"the sparse kernel's product differs by {difference:.2g} of the largest entry",
            where=name,
            expected=f"at most {TOLERANCE}",
            remedy="this build of torch or this card computes 2:4 products wrongly",
        )


def _probe(weight: Tensor) -> Tensor:
    """Return test inputs [8, d_in], which depend on nothing but d_in."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, weight.shape[1], generator=generator)
    return inputs.to(weight.device, weight.dtype)
