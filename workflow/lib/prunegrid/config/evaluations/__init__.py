"""Kinds of evaluation, a module each, found by its name."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any


@functools.cache
def kinds() -> dict[str, Any]:
    """Return {kind: the class of its profile}."""
    files = sorted(Path(__file__).parent.glob("[a-z]*.py"))
    names = [file.stem for file in files if file.stem != "kind"]
    return {name: importlib.import_module(f"{__name__}.{name}").PROFILE for name in names}


def fits(evaluation: Any, task: str) -> bool:
    """Return whether an evaluation asks models of a task."""
    return task in evaluation.FITS
