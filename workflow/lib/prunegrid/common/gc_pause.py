"""Importing large libraries without looking for garbage meanwhile.

torch and transformers make a million objects that live as long as the process. Python's collector
looks through all of them again and again while they come (0.7 of 4.4 CPU seconds), and twice more
when the process ends (0.8): more than many a step of a small model works.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def importing(module: str) -> Iterator[None]:
    """Import in the body without collections, and leave what is there then out of later ones.

    Args:
        module: what the body brings in. Where it is loaded already, nothing is done: what a long
            process left behind by then must still be found.
    """
    if module in sys.modules:
        yield
        return
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
