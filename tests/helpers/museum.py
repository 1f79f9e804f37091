"""The museum of faults: each is put in, and the guard that is named must stop it."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator

import pytest

from prunegrid.common.errors import PrunegridError


@contextlib.contextmanager
def stopped_by(guard: Callable, words: str = "") -> Iterator[None]:
    """Expect that the block is stopped by this very function of the library (or one in it)."""
    with pytest.raises(PrunegridError, match=words) as caught:
        yield
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    names = [(frame.f_globals.get("__name__"), frame.f_code.co_name) for frame in frames]
    assert (guard.__module__, guard.__name__) in names, f"stopped in {names[-1]}"
