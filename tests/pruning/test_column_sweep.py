"""The factor of a Hessian that is singular, or that no dampening mends."""

import pytest
import torch

from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.column_sweep import factor_of
from prunegrid.pruning.input_stats import InputStats


def test_singular_hessian_falls_back_and_says_so(caplog):
    stats = InputStats(hessian=torch.full((8, 8), 2.0))
    factor, facts = factor_of(stats, 0.0)
    assert torch.isfinite(factor).all()
    assert facts["dampening"] > 0
    assert "float32 Cholesky failed with dampening 0" in facts["fallbacks"]
    assert "Cholesky failed" in caplog.text


def test_a_hessian_that_cannot_be_mended_is_refused():
    with pytest.raises(PrunegridError, match="not positive definite"):
        factor_of(InputStats(hessian=torch.diag(torch.tensor([1.0, -100.0]))), 0.01)
