"""Checks of what reads rows of its own: their kind, their splits, what is held apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prunegrid.common.errors import nearest
from prunegrid.config.fault import Fault
from prunegrid.config.row_overlap import shared

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def of_kind(config: Config, name: str, wanted: str, reader: str) -> Iterator[Fault]:
    """Yield a fault where a data set is not of the kind that is read.

    Args:
        name: of the data set; that it exists is checked elsewhere.
        wanted: "rows" or "summaries".
        reader: the kind of evaluation.
    """
    dataset = config.sections["datasets"].get(name)
    if dataset is None:
        return
    kind = "summaries" if dataset.mixture is not None else dataset.kind
    if kind != wanted:
        text = f"is '{name}', of kind {kind}; {reader} reads kind {wanted}"
        yield Fault(("dataset",), text)


def of_splits(config: Config, profile: Any, keys: Sequence[str]) -> Iterator[Fault]:
    """Yield a fault for each key of a profile that names no split of its data set."""
    dataset = config.sections["datasets"].get(profile.dataset)
    for key in keys if dataset is not None else ():
        split = getattr(profile, key)
        if split is not None and split not in dataset.splits:
            known = nearest(split, dataset.splits)
            yield Fault((key,), f"is '{split}', no split of '{profile.dataset}'; {known}")


def apart(config: Config, dataset: str, key: str, seen: str | None, scored: str) -> Iterator[Fault]:
    """Yield a fault where rows that are shown to a model are scored.

    Args:
        key: that names the split that is shown.
        seen: that split; None shows nothing.
        scored: the split that is scored.
    """
    if seen is not None and shared(config, (dataset, seen), (dataset, scored)):
        text = f"is '{seen}', which shares rows with '{scored}', which is scored; "
        yield Fault((key,), f"{text}slice them apart")
