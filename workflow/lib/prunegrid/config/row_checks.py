"""Checks of the data set that a profile reads: its kind, its splits, rows that are held apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prunegrid.common.errors import nearest
from prunegrid.config.fault import Fault
from prunegrid.config.sources import overlap, parse_source
from prunegrid.config.validated import Config


def of_kind(config: Config, name: str, wanted: str, reader: str) -> Iterator[Fault]:
    """Yield a fault if a data set is not of the wanted kind, which `reader` reads."""
    dataset = config.sections["datasets"].get(name)
    if dataset is None:
        return
    kind = "summaries" if dataset.mixture is not None else dataset.kind
    if kind != wanted:
        text = f"is '{name}', of kind {kind}; {reader} reads kind {wanted}"
        yield Fault(("dataset",), text)


def no_rows(config: Config, name: str) -> Iterator[Fault]:
    """Yield a fault if the rows of a data set are items."""
    dataset = config.sections["datasets"].get(name)
    if dataset is not None and dataset.has_items:
        text = f"is '{name}', of kind {dataset.kind}, which only tasks and mixtures read"
        yield Fault(("dataset",), text)


def of_splits(config: Config, profile: Any, keys: Sequence[str]) -> Iterator[Fault]:
    """Yield a fault for each key of a profile that names no split of its data set."""
    dataset = config.sections["datasets"].get(profile.dataset)
    for key in keys if dataset is not None else ():
        split = getattr(profile, key)
        if split is not None and split not in dataset.splits:
            known = nearest(split, dataset.splits)
            yield Fault((key,), f"is '{split}', no split of '{profile.dataset}'; {known}")


def apart(config: Config, profile: Any, key: str) -> Iterator[Fault]:
    """Yield a fault if the split that a key names shares rows with `split`, which is scored."""
    shown, scored = getattr(profile, key), profile.split
    if shown and share_rows(config, (profile.dataset, shown), (profile.dataset, scored)):
        text = f"is '{shown}', which shares rows with '{scored}', which is scored; "
        yield Fault((key,), f"{text}slice them apart")


def share_rows(config: Config, one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Return whether two splits, each (data set, split), are known to share rows of one source."""
    places = [_rows(config, *split) for split in (one, other)]
    if None in places:
        return False
    (origin, part), (other_origin, other_part) = places
    return origin == other_origin and overlap(f"rows{part}", f"rows{other_part}")


def _rows(config: Config, dataset: str, split: str) -> tuple[tuple, str] | None:
    """Return (source, slice) of a split, whatever its profile is called; None if not known."""
    profile = config.sections["datasets"].get(dataset)
    expression = getattr(profile, "splits", {}).get(split)
    if expression is None or (profile.source or profile.mixture) is None:
        return None
    name, bracket, part = expression.partition("[")
    if profile.mixture is not None:
        return ("mixture", dataset), bracket + part
    files = profile.files
    file = files.get(name) if isinstance(files, Mapping) else files
    listed = sorted(file) if isinstance(file, list) else [file] if file else []
    try:
        source = parse_source(profile.source, config.base)
    except ValueError:  # the source has a fault of its own
        return None
    if source["kind"] == "local":
        path = Path(source["path"])
        folder = path if path.is_dir() else path.parent
        return tuple(str((folder / f).resolve()) for f in listed) or (str(path),), bracket + part
    return (*source.values(), profile.subset, *(listed or [name])), bracket + part
