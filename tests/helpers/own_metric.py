"""A metric of one's own, written to a file; and fresh Pythons that load it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from prunegrid.evaluation import scoring

LIBRARY = Path(scoring.__file__).parents[2]
UP = {"higher_is_better": True}
OWN = """
import datasets
import evaluate

{declared}

class Mine(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="",
            citation="",
            features=datasets.Features({{
                "predictions": datasets.Value("string"),
                "references": datasets.Value("string"),
                {features}
            }}),
        )

    def _compute(self, predictions, references, **options):
        return {result}
"""


def write_metric(
    path: Path, result: str, columns: dict | None = None, features: str = "", more: str = ""
) -> Path:
    """Write a metric file that returns `result`, an expression of predictions and references."""
    path.parent.mkdir(parents=True, exist_ok=True)
    declared = more if columns is None else f"COLUMNS = {columns!r}\n{more}"
    path.write_text(OWN.format(declared=declared, features=features, result=result))
    return path


PLAIN = """
{declared}

def compute(predictions, references, {features}**options):
    return {result}
"""


def write_plain(path: Path, result: str, columns: dict, features: str = "", more: str = "") -> Path:
    """Write a metric file with a function `compute` that returns `result`, an expression."""
    declared = f"COLUMNS = {columns!r}\n{more}"
    path.write_text(PLAIN.format(declared=declared, features=features, result=result))
    return path


def python(code: str, **env: str) -> subprocess.Popen:
    """Start a fresh Python that runs `code` with the library on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(LIBRARY), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen) -> str:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out
