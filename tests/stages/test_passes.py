"""Whole passes: every architecture has a time and sizes, and the work is what the settings say."""

import gzip

import pytest
import torch
from safetensors.torch import save

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation import speed, timed_work
from prunegrid.models import checkpoint
from prunegrid.stages import passes
from tests.helpers import tiny
from tests.helpers.tiny_encoders import weights as encoder
from tests.helpers.tiny_translators import weights as translator

pytestmark = pytest.mark.model

SETTINGS = {"warmup": 1, "repetitions": 3, "prompt_tokens": 7, "new_tokens": 4, "batch_size": 2}
SETTINGS |= {"cache_dequantized": False, "sizes": True, "packed": None}
TOKENS = {"encoder": 2 * 7, "decoder": 2 * 7, "both": 2 * 7 + 2 * 4}


def made(folder, kind, pattern=None):
    makers = {"encoder": encoder, "both": translator}
    if kind == "decoder":
        return tiny.artifact(folder, "gpt2", pattern)
    return makers[kind](folder, pattern=pattern)


@pytest.mark.parametrize("kind", TOKENS)
def test_every_architecture_is_timed_and_sized(tmp_path, kind):
    place = made(tmp_path / "w", kind, "2:4")
    (tmp_path / "out").mkdir()
    record = passes.run(SETTINGS, {"weights": place}, tmp_path / "out", tiny.job())
    stored = file_io.read_json(tmp_path / "out/efficiency.json")
    seconds = stored["repetitions"]["prefill_seconds"]
    assert len(seconds) == 3 and "decode_seconds" not in stored["repetitions"]
    speeds = [TOKENS[kind] / s for s in seconds]
    median = record["prefill_tokens_per_second"]["median"]
    assert median == pytest.approx(sorted(speeds)[1]) and record["decode_tokens_per_second"] is None
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["efficiency.json"]
    sizes = record["sizes"]["bytes"]
    tensors = checkpoint.load(place).tensors
    dense = len(save(tensors, {"format": "pt"}))
    assert abs(sizes["gzip"] - len(gzip.compress(save(tensors), 6))) < 300
    assert sizes["packed"] < sizes["dense_float32"] and sizes["gzip"] < dense
    assert record["weights"]["sparsity_prunable"] == 0.5


def test_the_work_is_whole_passes_without_a_cache(tmp_path):
    model = checkpoint.load(made(tmp_path / "w", "both")).model
    seen = []
    model.register_forward_pre_hook(lambda m, a, kwargs: seen.append(kwargs), with_kwargs=True)
    work = timed_work.whole_pass(model, SETTINGS, "cpu", "test")
    speed.measure({"cell": work}, SETTINGS, "cpu")
    shapes = {(tuple(k["input_ids"].shape), tuple(k["decoder_input_ids"].shape)) for k in seen}
    assert shapes == {((2, 7), (2, 4))} and len(seen) == 4
    assert all(kwargs["use_cache"] is False for kwargs in seen)
    assert all(torch.equal(kwargs["input_ids"], seen[0]["input_ids"]) for kwargs in seen)


def test_more_tokens_than_positions_are_refused(tmp_path):
    place = made(tmp_path / "w", "encoder")
    with pytest.raises(PrunegridError, match="at most the model's 64 positions"):
        passes.run(SETTINGS | {"prompt_tokens": 65}, {"weights": place}, tmp_path, tiny.job())
