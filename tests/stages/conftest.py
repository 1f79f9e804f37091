"""The model stage, run on a source."""

from types import SimpleNamespace

import pytest


@pytest.fixture
def run_model(tmp_path):
    """Return a function that makes a model of a source; it returns (its folder, the record)."""
    from prunegrid.stages import model

    def run(source, task="causal-lm", dtype="float32", name="out"):
        out = tmp_path / name
        out.mkdir()
        job = SimpleNamespace(where="models.x", scratch=tmp_path, device="cpu")
        settings = {"source": source, "dtype": dtype, "task": task}
        return out, model.run(settings, {}, out, job)

    return run
