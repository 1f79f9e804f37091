"""Whether two splits hold rows of one source in common, as far as the config tells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from prunegrid.config.sources import overlap, parse_source

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def shared(config: Config, one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two splits, each (data set, split), are known to share rows of one source."""
    found = [_rows(config, *split) for split in (one, other)]
    if None in found:
        return False
    (origin, part), (other_origin, other_part) = found
    return origin == other_origin and overlap(f"rows{part}", f"rows{other_part}")


def _rows(config: Config, dataset: str, split: str) -> tuple[tuple, str] | None:
    """Return where a split's rows come from, whatever its profile is called, and their slice.

    None where there is no such split.
    """
    profile = config.sections["datasets"].get(dataset)
    expression = getattr(profile, "splits", {}).get(split)
    if expression is None:
        return None
    name, bracket, part = expression.partition("[")
    if profile.mixture is not None:
        return ("mixture", dataset), bracket + part
    files = profile.files
    file = files.get(name) if isinstance(files, Mapping) else files
    try:
        source = parse_source(profile.source, config.base)
    except ValueError:  # told already
        return None
    if source["kind"] == "local":
        path = Path(source["path"])
        folder = path if path.is_dir() else path.parent
        return (str((folder / file).resolve() if file else path),), bracket + part
    return (*source.values(), profile.subset, file or name), bracket + part
