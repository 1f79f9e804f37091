"""What all tests of models share."""

import pytest

from prunegrid.common import device_meters
from prunegrid.evaluation import peak_memory


@pytest.fixture(autouse=True)
def no_process_of_its_own(monkeypatch):
    """Peak memory is read in this process: starting another takes seconds (see test_peak)."""
    monkeypatch.setattr(peak_memory, "alone", lambda *_: device_meters.peak_memory())
