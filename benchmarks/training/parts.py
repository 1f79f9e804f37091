"""Where the time of a masked step goes: CPU microseconds of the parts of one linear, float32.

python benchmarks/training/parts.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow/lib"))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

from prunegrid.models.masked_product import Scratch, masked_sum, under_mask  # noqa: E402

D_OUT, D_IN, RANK = 1536, 576, 16


def microseconds(call: Callable[[], object], least: float = 0.3) -> float:
    """Return the mean CPU time of a call, over so many seconds."""
    call()
    began, calls = time.process_time(), 0
    while time.process_time() - began < least:
        call()
        calls += 1
    return (time.process_time() - began) / calls * 1e6


def plain_gradients(x, grad, hidden, a, b):
    """Return what a plain adapter adds to the input's gradient, and those of its factors."""
    below = grad @ b
    return below @ a, below.T @ x, grad.T @ hidden


def parts(tokens: int) -> dict[str, float]:
    """Return {part: microseconds} for a batch of so many tokens."""
    weight, a, b = torch.randn(D_OUT, D_IN), torch.randn(RANK, D_IN), torch.randn(D_OUT, RANK)
    x, grad = torch.randn(tokens, D_IN), torch.randn(tokens, D_OUT)
    bits = (torch.rand(D_OUT, D_IN) > 0.5).to(torch.int8).neg_()
    hidden = x @ a.T
    scratch, product, total = Scratch(), torch.empty(D_OUT, D_IN), torch.empty(D_OUT, D_IN)
    return {
        "both: x Wᵀ": microseconds(lambda: F.linear(x, weight)),
        "both: g W": microseconds(lambda: grad @ weight),
        "plain: x Aᵀ Bᵀ, added": microseconds(lambda: grad + F.linear(F.linear(x, a), b) * 2.0),
        "plain: its three gradients": microseconds(lambda: plain_gradients(x, grad, hidden, a, b)),
        "masked: gᵀ x": microseconds(lambda: torch.mm(grad.T, x, out=product)),
        "masked: the mask on it": microseconds(lambda: under_mask(bits, product, scratch)),
        "masked: its products with A and B": microseconds(lambda: (product @ a.T, b.T @ product)),
        "masked: W + M ∘ s B A, once a step": microseconds(
            lambda: masked_sum(weight, (a, b, 2.0), bits, scratch, total)
        ),
    }


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    found = {tokens: parts(tokens) for tokens in (128, 512)}
    print(f"| part, {D_OUT} x {D_IN}, rank {RANK} | 128 tokens | 512 tokens |")
    print("|---|---|---|")
    for name in found[128]:
        print(f"| {name} | {found[128][name]:.0f} | {found[512][name]:.0f} |")
    sums = {
        tokens: {
            kind: sum(v for n, v in values.items() if n.startswith(("both", kind)))
            for kind in ("plain", "masked")
        }
        for tokens, values in found.items()
    }
    for kind in ("plain", "masked"):
        print(f"| *{kind}, all* | {sums[128][kind]:.0f} | {sums[512][kind]:.0f} |")
    ratios = [sums[tokens]["masked"] / sums[tokens]["plain"] for tokens in found]
    print(f"| *masked to plain* | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
