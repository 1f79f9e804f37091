"""Shared fixtures: the library on the path, no network, one torch thread, no clock."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from prunegrid.common import plugins

ROOT = Path(__file__).resolve().parent.parent


# Set before huggingface_hub, datasets or torch are imported anywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_EVALUATE_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TORCHDYNAMO_DISABLE"] = "1"

# An example may take as long as it takes on a busy machine.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _no_own_plugins():
    """Forget a user's plugins that a test has added: their files are gone with its folder."""
    yield
    plugins.files.cache_clear()


class _FailedParts(logging.Handler):
    """Notes which parts of pages could not be made, which fails no table."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.titles: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == "the page has no part '%s'":
            self.titles.append(record.args[0])


@pytest.fixture(autouse=True, scope="session")
def _all_failed_parts():
    handler = _FailedParts()
    logging.getLogger("prunegrid").addHandler(handler)
    yield handler.titles
    logging.getLogger("prunegrid").removeHandler(handler)


@pytest.fixture(autouse=True)
def failed_parts(_all_failed_parts: list[str]):
    """Yield the titles of parts of pages that failed; a test that leaves any is in error."""
    yield _all_failed_parts
    titles = [*_all_failed_parts]
    _all_failed_parts.clear()
    assert titles == [], f"parts of a page could not be made: {titles}"


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with whole pipelines: begun last, they would be what everybody waits for."""
    items.sort(
        key=lambda item: (item.path.name != "test_table3.py", item.path.parent.name != "workflow")
    )


def pytest_collection_finish() -> None:
    """What imports made lives to the end: tests that look for garbage need not look through it."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _peak_memory_in_this_process(request: pytest.FixtureRequest) -> None:
    """Read peak memory here in tests of models: starting a process for it takes seconds."""
    if request.node.get_closest_marker("model"):
        from prunegrid.common import device_meters
        from prunegrid.evaluation import peak_memory

        patch = request.getfixturevalue("monkeypatch")
        patch.setattr(peak_memory, "alone", lambda *_: device_meters.peak_memory())


@pytest.fixture
def root() -> Path:
    """The project's folder."""
    return ROOT
