"""N:M as it is written, read in this one place; without torch, since start-up reads it too."""

from __future__ import annotations

import re


def parse_nm(text: str | None) -> tuple[int, int] | None:
    """Return (N, M) of the pattern "N:M"; None for any other text, and for None (dense)."""
    found = re.fullmatch(r"([0-9]+):([0-9]+)", text or "")
    return (int(found[1]), int(found[2])) if found else None
