"""Durations as people write them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return seconds in words: `8 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def roughly(seconds: float) -> str:
    """Return seconds in the words of an estimate: `20 s`, `4 min`, `2 h 10 min`; never 0."""
    step = 10 if seconds < 55 else 60 if seconds < 3570 else 600
    whole = max(1, round(seconds / step)) * step
    return duration(whole).replace(" min 00 s", " min").replace(" h 00 min", " h")
