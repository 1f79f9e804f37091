"""Patterns N:M; without torch, since start-up reads them too."""

from __future__ import annotations

import re


def parse_nm(text: str | None) -> tuple[int, int] | None:
    """Return (N, M) of the pattern "N:M"; None for any other text, and for None (dense)."""
    match = re.fullmatch(r"([0-9]+):([0-9]+)", text or "")
    return (int(match[1]), int(match[2])) if match else None
