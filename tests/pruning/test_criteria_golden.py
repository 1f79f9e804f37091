"""The methods against the reference implementations' own results (see tests/golden/README.md)."""

import numpy as np
import pytest
import torch

from prunegrid.pruning import prune_weight
from tests.helpers import ROOT

GOLDEN = ROOT / "tests/golden/layer_small.npz"
PATTERNS = {"50": "unstructured", "2of4": "2:4", "4of8": "4:8"}
# The references drop one weight more a matrix (magnitude) or a block (SparseGPT, of 2 here).
EXTRA = {("magnitude", "50"): 1, ("sparsegpt", "50"): 2}
CASES = [(m, p) for m in ("magnitude", "wanda", "sparsegpt") for p in PATTERNS]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def prune(golden, method, pattern, sparsity=0.5):
    own = {"dampening": float(golden["percdamp"]), "blocksize": int(golden["blocksize"])}
    return prune_weight(
        golden["W"],
        method,
        PATTERNS[pattern],
        sparsity=sparsity if pattern == "50" else None,
        inputs=golden["X"].t(),
        **(own if method == "sparsegpt" else {}),
    )


def output_error(golden, pruned):
    """‖(W - Wp) X‖ / ‖W X‖"""
    return float(((golden["W"] - pruned) @ golden["X"]).norm() / (golden["W"] @ golden["X"]).norm())


@pytest.mark.parametrize(("method", "pattern"), CASES)
def test_same_mask_and_error_at_the_references_count(golden, method, pattern):
    expected = golden[f"Wp_{method}_{pattern}"]
    zeros = expected.numel() // 2 + EXTRA.get((method, pattern), 0)
    # Just above the fraction, so that its floor is that count.
    pruned = prune(golden, method, pattern, (zeros + 0.01) / expected.numel())
    assert int((pruned == 0).sum()) == int((expected == 0).sum()) == zeros
    agreement = ((pruned != 0) == (expected != 0)).float().mean()
    assert agreement >= 0.999
    error = output_error(golden, expected)
    assert output_error(golden, pruned) == pytest.approx(error, rel=1e-3)
    kept = expected != 0
    assert torch.allclose(pruned[kept], expected[kept], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("method", "pattern"), CASES)
def test_exact_count_differs_only_where_the_reference_drops_too_many(golden, method, pattern):
    expected = golden[f"Wp_{method}_{pattern}"]
    pruned = prune(golden, method, pattern)
    assert int((pruned == 0).sum()) == expected.numel() // 2
    different = int(((pruned != 0) != (expected != 0)).sum())
    assert different == EXTRA.get((method, pattern), 0)
    assert pruned.shape == golden["W"].shape
    assert pruned.dtype == golden["W"].dtype
