"""On CUDA: the same units go as on the CPU, by every criterion, and the folder loads on the CPU."""

from __future__ import annotations

import pytest
import torch

# `make gpu-check` runs this where little more than torch is installed.
for package in ("accelerate", "pyarrow"):
    pytest.importorskip(package)

from prunegrid.artifacts import artifact_folder  # noqa: E402
from prunegrid.common import file_io  # noqa: E402
from prunegrid.models import checkpoint  # noqa: E402
from prunegrid.pruning.structured import stage  # noqa: E402
from tests.helpers import expert_models, shrunken  # noqa: E402
from tests.helpers.architectures import build  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("method", ["magnitude", "wanda", "taylor", "random"])
@pytest.mark.parametrize(("name", "units"), [("llama", ["heads", "mlp"]), ("gpt2", ["mlp"])])
def test_the_same_units_go_as_on_the_cpu(tmp_path, method, name, units):
    weights = shrunken.artifact(tmp_path / "model", build(name))
    tokens = shrunken.calibration(tmp_path / "tokens", shrunken.windows())
    asked = shrunken.settings(method, units, 0.4, update="least_squares")
    stories, tensors = [], []
    for device in ("cpu", "cuda:0"):
        out = tmp_path / device.partition(":")[0]
        out.mkdir()
        job = shrunken.job(tmp_path / "scratch")
        job.device = device
        parents = {"weights": weights, "calibration": tokens}
        record = stage.run(asked, parents, out, job)
        file_io.write_json(out / artifact_folder.MANIFEST, {"record": record})
        stories.append(file_io.read_json(out / "prune.json"))
        tensors.append(checkpoint.load(out).tensors)
    gone = [
        {(block, kind): facts["indices"] for block, kinds in story["blocks"].items()
         for kind, facts in kinds.items()}
        for story in stories
    ]  # fmt: skip
    assert gone[0] == gone[1]
    for key, value in tensors[0].items():
        assert torch.allclose(value, tensors[1][key], rtol=1e-2, atol=1e-3), key


@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_experts_go_on_cuda_too(tmp_path, kind, dtype):
    weights = shrunken.artifact(tmp_path / "model", expert_models.build(kind).to(dtype))
    tokens = shrunken.calibration(tmp_path / "tokens", expert_models.windows())
    asked = shrunken.settings("reap", ["experts"], 0.25)
    job = shrunken.job(tmp_path / "scratch")
    job.device, job.compute_dtype = "cuda:0", str(dtype).removeprefix("torch.")
    out = tmp_path / "out"
    out.mkdir()
    record = stage.run(asked, {"weights": weights, "calibration": tokens}, out, job)
    assert record["removed"] == {"experts": 1} and record["experts"] == {"unreached": {}}
    file_io.write_json(out / artifact_folder.MANIFEST, {"record": record})
    assert checkpoint.load(out).record == record["weights"]
