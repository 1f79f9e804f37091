"""Kinds of evaluation, a module each, found by its name."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any


@functools.cache
def kinds() -> dict[str, Any]:
    """Return {kind: the class of its profile}."""
    names = sorted(file.stem for file in Path(__file__).parent.glob("[a-z]*.py"))
    names.remove("kind")
    return {name: importlib.import_module(f"{__name__}.{name}").PROFILE for name in names}
