"""The step of ADMM, the alternating direction method of multipliers, for one linear's weights.

ALPS (arXiv:2406.07831, section 3.2) and ADMM-Grad (arXiv:2401.02938) both split the
problem "small error of the output, few weights" into two copies of the weights. With H̄ the
Hessian whose diagonal is 1, s the square roots of its diagonal before, B₀ = W s the dense weights
in these units, V the multipliers and ρ the penalty, one iteration is

    B = (H̄ + ρI)⁻¹ (H̄ B₀ - V + ρD);  T = B + V/ρ;  D = T under the new mask;  V = ρ(T - D).

Here it is computed as a change to the dense weights. V lies only where the mask prunes and D only
where it keeps, so T and the mask hold both. With S = T where the mask keeps and -T elsewhere,

    B = B₀ + (S - B₀) · ρ(H̄ + ρI)⁻¹,

one product an iteration. The algebra is the same and the rounding less: H̄ B₀ holds numbers as large
as H̄'s largest eigenvalue, whose rounding the inverse would enlarge. So float32 is enough, and a
weight that nothing moves stays the same to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PANEL = 256  # columns of a symmetric product that are computed at once


@dataclass
class Splitting:
    """Where ADMM stands for one linear.

    Attributes:
        dense: B₀, float32 [d_out, d_in].
        dead: bool [d_in], the inputs that were always zero; their weights go first.
        mask: bool [d_out, d_in], True = kept; D is T under it, and V/ρ the rest of T.
        point: T, float32 [d_out, d_in].
        moved: B - B₀, float32 [d_out, d_in].
        ratio: what V/ρ counts beside the rest of T: 1, or ρ before / ρ now where ρ has changed, or
            0 without multipliers.
    """

    dense: Tensor
    dead: Tensor
    mask: Tensor
    ratio: float = 1.0

    def __post_init__(self) -> None:
        # Made once: fresh memory for each iteration would cost as much as its arithmetic.
        self.point, self._work = self.dense.clone(), torch.empty_like(self.dense)
        self.moved = torch.zeros_like(self.dense)
        self._some_dead = bool(self.dead.any())

    def restart(self, mask: Tensor) -> None:
        """Go back to the dense weights, without multipliers, and to a mask of them."""
        self.mask, self.ratio = mask, 0.0
        self.point.copy_(self.dense)
        self.moved.zero_()

    def step(self, shrinking: Tensor) -> None:
        """Solve for B, and set T; a new mask may follow.

        Args:
            shrinking: ρ(H̄ + ρI)⁻¹, float32 [d_in, d_in].
        """
        target = self._work.copy_(self.mask).mul_(self.point)  # D
        multipliers = self.point.sub_(target).mul_(self.ratio)  # V/ρ
        target.sub_(multipliers).sub_(self.dense)
        torch.mm(target, shrinking, out=self.moved)
        self.point = multipliers.add_(self.dense).add_(self.moved)
        self.ratio = 1.0

    def sizes(self, values: Tensor) -> Tensor:
        """Return |values| [d_out, d_in], with -1 for the weights of dead inputs."""
        sizes = values.abs()
        return sizes.masked_fill_(self.dead, -1) if self._some_dead else sizes


def shrinking_of(values: Tensor, vectors: Tensor, rho: float) -> Tensor:
    """Return ρ(H̄ + ρI)⁻¹, float32 [d_in, d_in].

    Args:
        values: the eigenvalues of H̄, float64 [d_in].
        vectors: the eigenvectors, float32 [d_in, d_in], one a column.
    """
    half = vectors * (rho / (values + rho)).sqrt().float()
    product = torch.empty_like(vectors)
    # One triangle, by panels, then mirrored.
    for start in range(0, len(half), PANEL):
        end = start + PANEL
        torch.mm(half[start:end], half[:end].t(), out=product[start:end, :end])
        product[:start, start:end] = product[start:end, :start].t()
    return product
