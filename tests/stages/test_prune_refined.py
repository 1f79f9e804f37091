"""Stage `prune` with a refined mask, and with one that another step has chosen."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunegrid.common.errors import AttestationError
from prunegrid.models import checkpoint
from prunegrid.stages import calibration, hessians, prune
from tests.helpers.pruning_jobs import (
    BY_BLOCK,
    SAMPLES,
    SPARSEGPT,
    WANDA,
    Job,
    parents,
    record_of,
    write_artifact,
)

__all__ = ["parents"]
PATTERNS = {"2:4": {}, "half": {"pattern": "unstructured", "sparsity": 0.5, "scope": "row"}}


@pytest.fixture(scope="module")
def sources(parents, tmp_path_factory):
    """Return the weights, calibration and Hessians of a tiny model."""
    folder = tmp_path_factory.mktemp("sources")
    calibrated = write_artifact(
        folder / "c", lambda out: calibration.run(SAMPLES, parents, out, Job(folder))
    )
    read = {"model": parents["model"], "calibration": calibrated}
    measured = write_artifact(
        folder / "h", lambda out: hessians.run({"include": []}, read, out, Job(folder))
    )
    return {"weights": parents["model"], "calibration": calibrated, "hessians": measured}


def made(folder, sources, settings, memory=None, **parts):
    settings = {**settings, "propagation": "dense", **parts}
    job = Job(folder, memory=memory) if memory else Job(folder)
    return write_artifact(folder, lambda out: prune.run(settings, sources, out, job))


def report(folder):
    return json.loads((folder / "prune.json").read_text())


@pytest.mark.parametrize("memory", [None, BY_BLOCK])
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("method", [WANDA, SPARSEGPT], ids=["wanda", "sparsegpt"])
def test_a_mask_taken_on_gives_what_choosing_it_gives(sources, tmp_path, method, pattern, memory):
    settings = {**method, **PATTERNS[pattern]}
    own = made(tmp_path / "own", sources, settings, memory)
    known = sources | {"mask": own}
    for parts in ({"refine": "swaps", "update": "none"}, {"update": "least_squares"}):
        name = "-".join(parts.values())
        alone = made(tmp_path / f"{name}-alone", sources, settings, memory, **parts)
        given = made(tmp_path / f"{name}-given", known, settings, memory, **parts)
        assert record_of(alone)["weights"] == record_of(given)["weights"]
        assert report(alone) == report(given)
    refined = tmp_path / "swaps-none-alone"
    parts = {"refine": "swaps", "update": "least_squares"}
    alone = made(tmp_path / "alone", sources, settings, memory, **parts)
    given = made(tmp_path / "given", sources | {"mask": refined}, settings, memory, **parts)
    assert record_of(alone)["weights"] == record_of(given)["weights"]
    assert report(alone) == report(given)
    assert record_of(given)["refine"] == "swaps"


def test_the_report_has_the_error_before_and_after_swaps(sources, tmp_path):
    plain = made(tmp_path / "plain", sources, WANDA)
    refined = report(made(tmp_path / "swaps", sources, WANDA, refine="swaps"))
    for name, before in report(plain).items():
        found = refined[name]["refined"]
        assert found["error_before"] >= found["error_after"] == refined[name]["output_error"]
        # Wanda without a Hessian knows the squares of inputs alone, so its error is another number.
        assert found["swaps"] and refined[name]["zeros"] == before["zeros"]


def test_a_mask_of_altered_weights_is_refused(sources, tmp_path):
    own = made(tmp_path / "own", sources, WANDA)
    path = checkpoint.weight_files(Path(own))[0]
    tensors = load_file(path)
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = torch.ones_like(tensors[name])
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(AttestationError, match="up_proj"):
        made(tmp_path / "other", sources | {"mask": own}, WANDA, update="none")
