"""The modules of `benchmarks/gpu`, which is a folder of scripts and no package."""

from __future__ import annotations

import sys

from tests.helpers import ROOT

PLACE = ROOT / "benchmarks" / "gpu"
sys.path.insert(0, str(PLACE))

import agreement  # noqa: E402, F401
import check  # noqa: E402, F401
import gpu_tests  # noqa: E402, F401
import report  # noqa: E402, F401
import seconds  # noqa: E402, F401
import sparse  # noqa: E402, F401
import tuning  # noqa: E402, F401
import worker  # noqa: E402


def rows_of(checks, setting):
    """Return {line: row} of some checks, run in this process."""
    return {row.line: row for _, rows in worker.run_checks(checks, setting) for row in rows}
