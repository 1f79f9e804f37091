"""What all tests of models share."""

import pytest

from prunegrid import meters, peak


@pytest.fixture(autouse=True)
def no_process_of_its_own(monkeypatch):
    """Peak memory is read in this process: starting another takes seconds (see test_peak)."""
    monkeypatch.setattr(peak, "alone", lambda *_: meters.peak_memory())
