"""`from prunegrid import prune`: the step's own weights and report, for a model in memory."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import torch

import prunegrid
from prunegrid.common.determinism import derived_seed
from prunegrid.common.errors import PrunegridError
from prunegrid.common.source_code import LIBRARY
from prunegrid.models import checkpoint
from prunegrid.stages import calibration
from tests.helpers.pruning_jobs import (
    HALF,
    SAMPLES,
    SPARSEGPT,
    WANDA,
    Job,
    record_of,
    run_prune,
    tiny_model,
    write_artifact,
    write_model,
)
from tests.helpers.pruning_jobs import parents as parents  # a fixture

pytestmark = pytest.mark.model


class Seeded(Job):
    """A job whose seeds are those of a study with the seed 0."""

    def seed(self, purpose):
        return derived_seed(0, purpose)


@pytest.fixture(scope="module")
def calibrated(parents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    return write_artifact(
        folder / "c", lambda out: calibration.run(SAMPLES, parents, out, Seeded(folder))
    )


def texts_of(parents):
    return pq.read_table(parents["data"] / "train.parquet")["text"].to_pylist()


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        (WANDA, torch.float32),
        (WANDA, torch.bfloat16),
        (SPARSEGPT | HALF, torch.float32),
        (WANDA | HALF | {"allocation": "owl"}, torch.float32),
        (WANDA | {"method": "magnitude"}, torch.float32),
        (WANDA | {"method": "stade"}, torch.float32),
        (WANDA | {"propagation": "dense", "update": "least_squares"}, torch.float32),
    ],
    ids=["wanda", "bfloat16", "sparsegpt", "owl", "magnitude", "stade", "dense"],
)
def test_weights_and_report_are_the_step_s(tmp_path, parents, calibrated, settings, dtype):
    dense = parents["model"]
    if dtype is torch.bfloat16:
        dense = write_model(tmp_path / "dense", tiny_model(dtype))
        calibrated = write_artifact(
            tmp_path / "c",
            lambda out: calibration.run(SAMPLES, parents | {"model": dense}, out, Seeded(tmp_path)),
        )
    made = run_prune(tmp_path / "made", settings, dense, calibrated)
    loaded = checkpoint.load(dense)
    drawn = {key: SAMPLES[key] for key in ("samples", "length", "join")}
    report = prunegrid.prune(
        loaded.model, loaded.tokenizer, texts_of(parents), compute_dtype="float32",
        **settings, **drawn,
    )  # fmt: skip
    saved = checkpoint.write_plain(
        loaded.model, loaded.tokenizer, tmp_path / "own", settings["pattern"]
    )
    assert saved.record["sha256"] == record_of(made)["weights"]["sha256"]
    assert json.loads(json.dumps(report)) == json.loads((made / "prune.json").read_text())
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {dtype}


def test_a_model_of_a_user_is_half_zeros_and_stays_as_it_was_held():
    model = tiny_model().train()
    report = prunegrid.prune(model, method="magnitude", pattern="unstructured", sparsity=0.5)
    assert model.training and all(p.requires_grad for p in model.parameters())
    for name, facts in report.items():
        weight = model.get_submodule(name).weight
        assert int((weight == 0).sum()) == facts["zeros"] == weight.numel() // 2


def test_a_method_of_a_user_s_own_by_its_path(tmp_path):
    source = LIBRARY / "prunegrid/pruning/criteria/magnitude.py"
    (tmp_path / "mine.py").write_bytes(source.read_bytes())
    own, ours = tiny_model(), tiny_model()
    report = prunegrid.prune(own, method=str(tmp_path / "mine.py"))
    assert report == prunegrid.prune(ours, method="magnitude")
    weights = ours.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in own.state_dict().items())


def test_another_seed_draws_other_masks():
    models = [tiny_model() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        prunegrid.prune(model, method="random", seed=seed)
    same, again, other = (model.state_dict() for model in models)
    assert all(torch.equal(same[name], again[name]) for name in same)
    assert any(not torch.equal(same[name], other[name]) for name in same)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "texts"),
        ({"texts": ["short"], "length": 64}, "tokenizer"),
        ({"pattern": "structured"}, "study"),
        ({"method": "wnda"}, "wanda"),
        ({"method": "magnitude", "dampening": 1}, "dampening"),
    ],
)
def test_what_it_cannot_do_is_said(arguments, word):
    with pytest.raises(PrunegridError, match=word):
        prunegrid.prune(tiny_model(), **arguments)


def test_windows_longer_than_the_model_s_positions_are_refused(parents):
    loaded = checkpoint.load(parents["model"])
    with pytest.raises(PrunegridError, match="128 positions"):
        prunegrid.prune(loaded.model, loaded.tokenizer, texts_of(parents), length=129)


def test_importing_the_package_imports_no_torch():
    code = "import sys, prunegrid; assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="prun"):
        _ = prunegrid.prun
