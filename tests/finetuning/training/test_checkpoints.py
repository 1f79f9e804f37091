"""A training job that is killed and run again ends in the bytes of one that never was."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prunegrid.artifacts import artifact_folder
from prunegrid.common.errors import PrunegridError
from prunegrid.finetuning.training import checkpoints, loop
from prunegrid.stages import finetune
from tests.helpers import tiny

pytestmark = pytest.mark.model

SETTINGS = {"epochs": 2, "batch_size": 4, "weight_decay": 0.1, "warmup_steps": 2}


class Killed(BaseException):
    """Stands for the end of the process: nothing of the job sees it."""


@pytest.fixture
def place(tmp_path):
    """Return a folder with a pruned parent that drops in training, and data with a dev split."""
    parent = tiny.artifact(tmp_path / "parent", "opt", "2:4")
    config = json.loads((parent / "config.json").read_text())
    (parent / "config.json").write_text(json.dumps(config | {"dropout": 0.2}))
    tiny.held_out(tmp_path / "data")
    return tmp_path


def tune(place, name, scratch=None, every_s=0.0, strategy="full", **changes):
    """Return (train facts, files of the artifact) of one step; its checkpoints are in scratch."""
    out = place / name
    out.mkdir()
    scratch = scratch or place / f"scratch-{name}"
    parents = {"weights": place / "parent", "data": place / "data"}
    settings = tiny.finetune(strategy, **{**SETTINGS, **changes})
    record = finetune.run(settings, parents, out, tiny.job(scratch=scratch, every_s=every_s))
    return record["train"], artifact_folder.list_files(out)


def kill_at(monkeypatch, call, passes=None):
    """Make the forward pass of this number (from 1) of training the last one."""
    real, made = loop.summed_loss, passes if passes is not None else []

    def counted(*arguments):
        made.append(1)
        if len(made) == call:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(loop, "summed_loss", counted)


def every_third_step(monkeypatch):
    asked = []
    monkeypatch.setattr(
        checkpoints.Store, "due", lambda self: asked.append(1) or len(asked) % 3 == 0
    )


@pytest.mark.parametrize(
    ("strategy", "changes"),
    [
        ("full", {"accumulate": 2}),
        ("lora", {"dropout": 0.2}),
        ("qlora", {"dropout": 0.2, "gradient_checkpointing": True}),
        ("full", tiny.OVERFITTED),
    ],
)
def test_a_killed_run_ends_in_the_same_bytes(place, monkeypatch, strategy, changes):
    whole, files = tune(place, "whole", strategy=strategy, **changes)
    assert whole["resumed_at"] == []
    if "evaluate_every" in changes:  # the best weights are those before the checkpoint
        assert whole["kept_step"] <= 3
    every_third_step(monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 11 if "accumulate" in changes else 6)
        tune(place, "half", strategy=strategy, **changes)
    again, found = tune(place, "again", place / "scratch-half", strategy=strategy, **changes)
    assert again["resumed_at"] == [3]
    assert found == files
    assert again["last_loss"] == whole["last_loss"] and again["tokens"] == whole["tokens"]


def test_a_run_killed_twice_ends_in_the_same_bytes(place, monkeypatch):
    _, files = tune(place, "whole")
    scratch = place / "scratch"
    for number in (1, 2):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, 4)
            tune(place, f"half{number}", scratch)
    again, found = tune(place, "again", scratch)
    assert again["resumed_at"] == [3, 6] and found == files


def test_a_process_that_is_gone_leaves_a_whole_checkpoint(place):
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import tests.finetuning.training.test_checkpoints as here\n"
        "from prunegrid.finetuning.training import loop\n"
        "step = loop.Loop._step\n"
        "def dying(self, micro):\n"
        "    os._exit(9) if self.facts.steps == 5 else step(self, micro)\n"
        "loop.Loop._step = dying\n"
        "here.tune(Path(sys.argv[1]), 'half')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", script, str(place)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert [p.name for p in (place / "scratch-half/training").iterdir()] == ["training.safetensors"]
    again, found = tune(place, "again", place / "scratch-half")
    assert again["resumed_at"] == [5] and again["steps"] == 12
    assert found == tune(place, "whole")[1]


def forget_random(patch):
    patch.setattr(torch, "set_rng_state", lambda state: None)


def forget_optimizer(patch):
    load = checkpoints.Store.load

    def without(self, name):
        found = load(self, name)
        if found:
            for tensor in (t for path, t in found[0].items() if path.startswith("optimizer/exp")):
                tensor.zero_()
        return found

    patch.setattr(checkpoints.Store, "load", without)


def forget_order(patch):
    """Every job would begin with the first rows again."""
    real = loop.batches
    patch.setattr(loop, "batches", lambda *a: itertools.chain([None] * 3, real(*a)))


@pytest.mark.parametrize("forget", [forget_random, forget_optimizer, forget_order])
def test_what_is_not_restored_is_seen(place, monkeypatch, forget):
    """The planted faults: each makes other bytes, so the tests above look at it."""
    _, files = tune(place, "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        tune(place, "half")
    forget(monkeypatch)
    again, found = tune(place, "again", place / "scratch-half")
    assert again["resumed_at"] == [3] and found != files


def test_tries_that_ended_are_not_made_again(place, monkeypatch):
    changes = {"dev_split": "dev", "learning_rates": [3e-3, 1e-3, 1e-4], "strategy": "lora"}
    _, files = tune(place, "whole", **changes)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 12 + 5)
        tune(place, "half", **changes)
    passes = []
    kill_at(monkeypatch, -1, passes)
    again, found = tune(place, "again", place / "scratch-half", **changes)
    assert found == files
    assert len(passes) == 12 * 3 - 12 - 4
    assert again["learning_rate"] == 3e-3 and again["resumed_at"] == []


def test_a_rate_that_diverged_is_not_tried_again(place, monkeypatch):
    changes = {"dev_split": "dev", "learning_rates": [1e9, 1e-3], "strategy": "full"}
    whole, files = tune(place, "whole", **changes)
    passes = []
    with monkeypatch.context() as patch:
        kill_at(patch, -1, passes)
        tune(place, "counted", **changes)
    lost = len(passes) - 12  # of the first rate, before it was out
    assert 0 < lost < 12
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, lost + 5)
        tune(place, "half", **changes)
    again_passes = []
    kill_at(monkeypatch, -1, again_passes)
    again, found = tune(place, "again", place / "scratch-half", **changes)
    assert found == files and again["runs"] == whole["runs"] == 2
    assert len(again_passes) == 12 - 4


def test_the_peak_of_a_killed_run_counts(place, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop, "peak_memory", lambda device: 10**15)
        kill_at(patch, 4)
        tune(place, "half")
    again, _ = tune(place, "again", place / "scratch-half")
    assert again["resumed_at"] == [3] and again["peak_memory_bytes"] == 10**15


@pytest.mark.parametrize("damage", ["other settings", "truncated", "not a checkpoint"])
def test_a_checkpoint_that_is_not_this_runs_is_not_used(place, monkeypatch, caplog, damage):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        tune(place, "half", learning_rate=1e-3 if damage == "other settings" else 3e-3)
    path = place / "scratch-half/training/training.safetensors"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "not a checkpoint":
        path.write_bytes(b"x" * 99)
    again, found = tune(place, "again", place / "scratch-half")
    assert again["resumed_at"] == [] and "is not used" in caplog.text
    assert found == tune(place, "whole")[1]


def test_a_full_disk_costs_the_checkpoint_and_not_the_run(place, monkeypatch, caplog):
    def full(folder, needed):
        if "scratch" in str(folder):
            raise PrunegridError("0.00 GB are free")

    monkeypatch.setattr(artifact_folder, "require_space", full)
    _, found = tune(place, "full")
    assert "checkpoint was not written: 0.00 GB are free" in caplog.text
    assert not list((place / "scratch-full").rglob("*.safetensors"))
    assert found == tune(place, "whole", every_s=None)[1]


@pytest.mark.parametrize(("mask", "mode"), [(0o002, 0o664), (0o077, 0o600)])
def test_a_colleague_can_go_on_where_the_umask_allows(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        checkpoints.Store(tmp_path, 300, "me").save("a", {"x": torch.arange(3)}, {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == mode


def test_a_state_that_may_not_be_read_is_left_to_its_owner(tmp_path, monkeypatch):
    store = checkpoints.Store(tmp_path, 300, "me")
    store.save("a", {"x": torch.arange(3)}, {})
    monkeypatch.setattr(
        "prunegrid.finetuning.training.checkpoints.os.access", lambda path, mode: False
    )
    with pytest.raises(PrunegridError, match="may not be read.*chmod"):
        store.load("a")
    assert (tmp_path / "a.safetensors").exists()


def test_seconds_decide_when_a_state_is_saved(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(
        "prunegrid.finetuning.training.checkpoints.time.monotonic", lambda: clock[0]
    )
    store = checkpoints.Store(tmp_path / "training", 300, "me")
    assert not store.due()
    clock[0] += 300
    assert store.due()
    store.save("a", {"x/y": torch.arange(3)}, {"steps": 1})
    assert not store.due()
    tensors, facts = store.load("a")
    assert tensors["x/y"].tolist() == [0, 1, 2] and facts == {"steps": 1}
    assert store.load("b") is None
    assert isinstance(tensors["x/y"], Tensor) and Path(tmp_path / "training/a.safetensors").exists()
