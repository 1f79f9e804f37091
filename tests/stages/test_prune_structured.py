"""Every step that takes weights takes smaller ones: tuning, generation, timing, sizes, pruning."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from transformers import AutoModelForCausalLM

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning.strategies import reconstruct
from prunegrid.models import checkpoint, open_checkpoint
from prunegrid.models.blocks import prunable
from prunegrid.models.packed.packed_checkpoint import pack, unpack
from prunegrid.stages import efficiency, finetune, predictions, prune, transform
from tests.helpers import expert_models, shrunken, tiny

pytestmark = pytest.mark.model

TIMED = {"warmup": 0, "repetitions": 2, "prompt_tokens": 8, "new_tokens": 3, "batch_size": 1}
TIMED |= {"cache_dequantized": False, "sizes": True, "packed": None}


def shrink(folder, weights, sparsity=0.4, units=("heads", "mlp"), method="taylor", **changes):
    """Return the artifact of one step of pattern structured, by the stage that the graph calls."""
    folder.mkdir(parents=True)
    tokens = shrunken.calibration(folder.with_name(f"{folder.name}-tokens"), shrunken.windows())
    asked = shrunken.settings(method, list(units), sparsity, **changes)
    job = shrunken.job(folder.with_name("scratch"))
    record = prune.run(asked, {"weights": weights, "calibration": tokens}, folder, job)
    file_io.write_json(folder / artifact_folder.MANIFEST, {"record": record})
    return folder


@pytest.fixture
def parents(tmp_path):
    dense = tiny.artifact(tmp_path / "dense", "llama")
    small = shrink(tmp_path / "small", dense, update="least_squares")
    return SimpleNamespace(dense=dense, small=small, data=tiny.data(tmp_path / "data"))


@pytest.fixture
def mixture(tmp_path):
    """Return the artifact of a mixture that has lost experts."""
    dense = tmp_path / "mixture"
    dense.mkdir()
    model = expert_models.build("qwen3_moe")
    saved = checkpoint.write_plain(model, tiny.tokenizer(), dense, None)
    tiny.finish(dense, saved.record)
    return shrink(tmp_path / "fewer", dense, 0.25, ("experts",), "reap")


def weights_of(folder):
    return file_io.read_json(folder / artifact_folder.MANIFEST)["record"]["weights"]


def tuned(tmp_path, strategy, weights, data, name=None, **changes):
    out = tmp_path / (name or strategy)
    out.mkdir()
    settings = tiny.finetune(strategy, **changes)
    record = finetune.run(settings, {"weights": weights, "data": data}, out, tiny.job())
    tiny.finish(out, record["weights"])
    return record, out


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ("full", {}),
        ("norms", {"learning_rate": 5e-2, "epochs": 6}),
        ("lora", {}),
        ("lora", {"adapter": "unmerged"}),
        ("qlora", {}),
        ("qlora", {"adapter": "merged", "quantization": "int8"}),
    ],
    ids=str,
)
def test_a_smaller_model_is_tuned_and_writes(tmp_path, parents, strategy, changes):
    record, out = tuned(tmp_path, strategy, parents.small, parents.data, **changes)
    assert record["train"]["last_loss"] < record["train"]["first_loss"]
    # There are no zeros to keep, so none are promised; what was removed stays so.
    assert record["train"]["zeros_promised"] is None
    before, after = weights_of(parents.small), record["weights"]
    assert after["removed_prunable"] == before["removed_prunable"] > 0.3
    assert after["prunable_before"] == weights_of(parents.dense)["prunable_parameters"]
    assert after["pattern"] is None
    folder = tmp_path / "predictions"
    folder.mkdir()
    made = predictions.run(
        tiny.generation(), {"weights": out, "data": parents.data}, folder, tiny.job()
    )
    assert made["weights"] == after and made["rows"] == 24
    again = open_checkpoint.load(out, attest=False)
    assert again.record == after


@pytest.mark.parametrize("precision", ["nf4", "int8", "bfloat16"])
def test_a_smaller_model_is_quantized(tmp_path, parents, precision):
    out = tmp_path / precision
    out.mkdir()
    settings = {"strategy": "quantize", "precision": precision, "double_quant": True}
    record = transform.run(settings, {"weights": parents.small}, out, tiny.job())
    assert record["weights"]["precision"] == precision
    assert record["weights"]["removed_prunable"] == weights_of(parents.small)["removed_prunable"]


def test_parameters_bytes_and_sizes_are_measured_smaller(tmp_path, parents):
    found = {}
    for name in ("dense", "small"):
        out = tmp_path / f"timed-{name}"
        out.mkdir()
        found[name] = efficiency.run(TIMED, {"weights": getattr(parents, name)}, out, tiny.job())
    dense, small = found["dense"], found["small"]
    share = 1 - small["weights"]["removed_total"]
    assert small["parameters"] == round(share * dense["parameters"]) < dense["parameters"]
    assert small["file_bytes"] < dense["file_bytes"]
    for form, size in small["sizes"]["bytes"].items():
        assert size < dense["sizes"]["bytes"][form], form


def test_a_smaller_folder_is_packed_and_unpacked(tmp_path, parents):
    pack(parents.small, tmp_path / "packed")
    unpack(tmp_path / "packed", tmp_path / "again")
    found = checkpoint.file_weights_sha256(tmp_path / "again")
    assert found == weights_of(parents.small)["sha256"]


def test_each_step_prunes_the_tuned_model_of_the_one_before(tmp_path, parents):
    first = shrink(tmp_path / "first", parents.dense, 0.2, ["mlp"])
    _, middle = tuned(tmp_path, "full", first, parents.data)
    second = shrink(tmp_path / "second", middle, 0.4, ["mlp"])
    shares = [weights_of(folder)["removed_prunable"] for folder in (first, middle, second)]
    assert shares[0] == shares[1] and shares == pytest.approx([0.2, 0.2, 0.4], abs=0.005)
    dense = weights_of(parents.dense)
    assert weights_of(second)["parameters_before"] == dense["parameters"]


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_mixture_with_fewer_experts_is_tuned(tmp_path, mixture, strategy):
    record, folder = tuned(tmp_path, strategy, mixture, tiny.data(tmp_path / "data"))
    before, after = weights_of(mixture), record["weights"]
    for key in ("removed_prunable", "removed_total", "parameters", "experts_before"):
        assert after[key] == before[key] is not None
    assert after["sha256"] != before["sha256"] and after["experts_before"] == 4
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_local_experts == 3


def test_a_mixture_with_fewer_experts_is_timed_and_pruned(tmp_path, mixture):
    (tmp_path / "timed").mkdir()
    record = efficiency.run(TIMED, {"weights": mixture}, tmp_path / "timed", tiny.job())
    assert record["parameters"] == weights_of(mixture)["parameters"]
    asked = {"method": "magnitude", "pattern": "2:4", "sparsity": None, "scope": None}
    (tmp_path / "sparse").mkdir()
    job = shrunken.job(tmp_path / "scratch")
    pruned = prune.run(asked, {"weights": mixture}, tmp_path / "sparse", job)
    assert pruned["weights"]["nm_valid"] is True and pruned["weights"]["experts_before"] == 4


def test_zeros_after_removed_units_and_before(tmp_path, parents):
    """A mask over what stays; and units that go from a sparse model leave its zeros kept."""
    out = tmp_path / "sparse"
    out.mkdir()
    half = {"method": "magnitude", "pattern": "unstructured", "sparsity": 0.5}
    job = tiny.job(scratch=tmp_path / "scratch")
    record = prune.run(half, {"weights": parents.small}, out, job)
    assert record["weights"]["sparsity_prunable"] == 0.5
    assert record["weights"]["removed_prunable"] == weights_of(parents.small)["removed_prunable"]
    tiny.finish(out, record["weights"])
    sparse = tiny.artifact(tmp_path / "half", "llama", "unstructured")
    small = shrink(tmp_path / "small-half", sparse, 0.3, ["mlp"], "magnitude")
    assert weights_of(small)["pattern"] == "unstructured"
    tuning, _ = tuned(tmp_path, "full", small, parents.data)
    assert tuning["train"]["zeros_filled"] == 0 and tuning["train"]["zeros_promised"] == "all"
    model = AutoModelForCausalLM.from_pretrained(small)
    kept = sum(int((m.weight == 0).sum()) for m in prunable(model).values())
    assert weights_of(small)["prunable_zeros"] == kept > 0


def test_groups_of_a_pattern_that_neurons_would_break_are_refused(tmp_path, parents):
    sparse = tiny.artifact(tmp_path / "sparse", "llama", "2:4")
    with pytest.raises(PrunegridError, match="do not keep the pattern 2:4.*remove units first"):
        shrink(tmp_path / "broken", sparse, 0.3, ["mlp"], "random")


def test_refitting_to_the_dense_model_is_refused(tmp_path, parents):
    out = tmp_path / "refitted"
    out.mkdir()
    tokens = shrunken.calibration(tmp_path / "tokens", shrunken.windows())
    settings = {"strategy": "reconstruct"} | reconstruct.SETTINGS
    asked = {"weights": parents.small, "dense": parents.dense, "calibration": tokens}
    with pytest.raises(PrunegridError, match="another architecture"):
        transform.run(settings, asked, out, tiny.job())
