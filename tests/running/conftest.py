"""A step that does nothing by itself, for tests of what surrounds it."""

import sys
from types import ModuleType

import pytest

from prunegrid.artifacts.keys import code_digest


@pytest.fixture
def stage(monkeypatch):
    """A stage whose `run` the test sets."""
    module = ModuleType("prunegrid.stages.pretend")
    monkeypatch.setitem(sys.modules, "prunegrid.stages.pretend", module)
    return module


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return {
        "stage": "pretend",
        "key": "a" * 16,
        "label": "pretend step",
        "path": str(tmp_path / "artifacts/pretend" / ("a" * 16)),
        "scratch": str(tmp_path / "scratch"),
        "status": str(tmp_path / "status.json"),
        "settings": {"seed": 3},
        "parents": {},
        "roots": ["prunegrid.common.errors"],
        "code": code_digest(["prunegrid.common.errors"]),
        "pins": {},
        "threads": 1,
        "memory": {"model": "whole", "activations": "device", "chunk": 8},
        "training": {"checkpoint_every_s": None},
        "device": "cpu",
        "compute_dtype": None,
    }
