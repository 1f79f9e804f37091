"""Estimates of memory: they wait for the weights' size, and grow with each attempt."""

import json
from types import SimpleNamespace

import pytest

from prunegrid.resources import memory_mb


def node(stage, manifest=None, **settings):
    parents = {}
    if manifest is not None:
        parents["weights"] = SimpleNamespace(stage="model", manifest=str(manifest), parents={})
    return SimpleNamespace(stage=stage, settings=settings, parents=parents)


def test_the_size_of_the_weights_decides(tmp_path):
    sizes = {}
    for parameters in (10**8, 10**9):
        path = tmp_path / f"{parameters}.json"
        path.write_text(json.dumps({"record": {"weights": {"parameters": parameters}}}))
        full = memory_mb(node("finetune", path, strategy="full"))
        qlora = memory_mb(node("finetune", path, strategy="qlora"))
        generate = memory_mb(node("predictions", path))
        assert generate < qlora < full
        tries = {"strategy": "full", "learning_rates": [1e-4, 1e-3], "evaluate_every": 2}
        tried = memory_mb(node("finetune", path, **tries))
        # What they start from, the best of them, and the best step of each.
        assert tried - full == pytest.approx(3 * 4 * parameters / 1e6, abs=1)
        # Full fine-tuning holds weights, gradients and two moments in float32.
        assert full > 16 * parameters / 1e6
        sizes[parameters] = full
    assert sizes[10**9] > 5 * sizes[10**8]


def test_without_the_weights_it_is_asked_again(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        memory_mb(node("prune", tmp_path / "none.json"))
    assert caught.value.filename == str(tmp_path / "none.json")


def test_a_retry_asks_for_half_as_much_again():
    first, second, third = (memory_mb(node("data"), attempt) for attempt in (1, 2, 3))
    assert (second, third) == (1.5 * first, 2 * first)


def test_a_census_holds_no_weights(tmp_path):
    path = tmp_path / "m.json"
    sizes = []
    for parameters in (10**6, 10**10):
        path.write_text(json.dumps({"record": {"weights": {"parameters": parameters}}}))
        sizes.append(memory_mb(node("census", path)))
    assert sizes[0] == sizes[1]
