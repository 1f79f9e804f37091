"""On CUDA from compute capability 8.0 on: 2:4 linears run in sparse kernels and say the same."""

from __future__ import annotations

import pytest
import torch

# `make gpu-check` runs this where little more than torch is installed.
pytest.importorskip("pyarrow")

from prunegrid.models import sparse_kernels  # noqa: E402
from prunegrid.stages import efficiency  # noqa: E402
from tests.helpers import tiny  # noqa: E402

DEVICE = "cuda:0"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
        reason="no CUDA device of compute capability 8.0",
    ),
]
SETTINGS = {
    "warmup": 1,
    "repetitions": 3,
    "prompt_tokens": 16,
    "new_tokens": 4,
    "batch_size": 2,
    "cache_dequantized": False,
    "packed": None,
    "sizes": True,
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind,linears", [("llama", 14), ("opt", 12)])
def test_they_compute_the_same(kind, linears, dtype):
    model = tiny.model(kind, dtype=dtype)
    tiny.prune_(model, "2:4")
    model = model.to(DEVICE)
    for length in (1, 7, 16):
        ids = torch.randint(3, 40, (2, length), device=DEVICE)
        with torch.inference_mode():
            dense = model(input_ids=ids).logits
            with sparse_kernels.running(model, DEVICE) as count:
                assert count == linears
                fast = model(input_ids=ids).logits
            again = model(input_ids=ids).logits
        assert (dense - fast).abs().max() < 0.05 * dense.abs().max()
        assert torch.equal(dense, again)


@pytest.mark.parametrize(
    "pattern,dtype,linears",
    [("2:4", torch.bfloat16, 14), ("4:8", torch.bfloat16, 0), ("2:4", torch.float32, 0)],
)
def test_the_record_says_what_ran(tmp_path, pattern, dtype, linears):
    weights = tiny.artifact(tmp_path / "w", "llama", pattern, dtype=dtype)
    (tmp_path / "e").mkdir()
    record = efficiency.run(SETTINGS, {"weights": weights}, tmp_path / "e", tiny.job(DEVICE))
    sparse = record["sparse_kernels"]
    assert sparse["linears"] == linears and len(sparse) == (3 if linears else 1)
    assert record["sizes"]["bytes"]["packed"] > 0
    assert record["energy_method"] in ("nvml-device", "none")
