"""The calibration of a pruning step that names none, in a study of a user's own text.

A local data set with a split `train` or `calibration` gives one: windows of that split's documents,
joined, so that short ones do. It is named `<data set>-<split>-default`, and the table says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.config.cells import Chain
from prunegrid.config.profiles import Calibration
from prunegrid.config.prune_step import Prune
from prunegrid.config.sources import parse_source
from prunegrid.config.validated import Config

SPLITS = ("train", "calibration")
SAMPLES, LENGTH = 128, 256


def of_datasets(datasets: Mapping[str, Any], base: Path) -> Iterator[tuple[str, Calibration]]:
    """Yield (name, calibration) of each data set that gives one.

    Args:
        base: the folder that relative paths start from.
    """
    for name, profile in datasets.items():
        split = next((split for split in SPLITS if split in profile.splits), None)
        if split and not profile.has_items and _is_local(profile.source, base):
            yield name_of(name, split), _windows(name, split)


def _windows(dataset: str, split: str) -> Calibration:
    facts = {"dataset": dataset, "split": split, "samples": SAMPLES, "length": LENGTH}
    return Calibration(**facts, join=True)


def is_default(calibration: Calibration) -> bool:
    """Return whether a calibration is one that a data set gives; it matters only where used."""
    return calibration == _windows(calibration.dataset, calibration.split)


def add(sections: dict[str, dict[str, Any]], base: Path) -> None:
    """Add the calibrations that data sets give to those of the config, which win."""
    given = dict(of_datasets(sections["datasets"], base))
    sections["calibration"] = given | sections["calibration"]


def _is_local(source: str | None, base: Path) -> bool:
    try:
        return parse_source(source or "", base)["kind"] == "local"
    except ValueError:
        return False


def name_of(dataset: str, split: str) -> str:
    """Return the name of a data set's default calibration."""
    return f"{dataset}-{split}-default"


def gives(config: Config) -> bool:
    """Return whether some data set of a config gives a calibration."""
    return any(of_datasets(config.sections["datasets"], config.base))


def filled(chain: Chain, dataset: str | None, known: Mapping[str, Any]) -> Chain:
    """Return a chain whose pruning steps without a needed calibration have the data set's.

    Args:
        known: the calibrations of the config.
    """
    names = [name_of(str(dataset), split) for split in SPLITS]
    name = next((name for name in names if name in known), None)
    if name is None or not any(is_missing(step.profile) for step in chain):
        return chain
    given = {"calibration": name}
    return tuple(
        replace(step, profile=step.profile.model_copy(update=given))
        if is_missing(step.profile)
        else step
        for step in chain
    )


def is_missing(profile: Any) -> bool:
    """Return whether a step needs calibration samples and names none."""
    if not isinstance(profile, Prune) or profile.calibration or profile.method == "dense":
        return False
    try:
        needs = plugins.needs_of(profile)
    except PrunegridError:  # a name that has a fault of its own
        return False
    return any(need != "nothing" for need in needs)


def told(chain: Chain, known: Mapping[str, Any]) -> list[str]:
    """Return in words the default calibrations that a chain's steps took."""
    named = (getattr(step.profile, "calibration", None) for step in chain)
    drawn = {name: known[name] for name in named if name in known}
    return [
        f"calibration: none is named, so {name} is taken: {profile.samples} samples of "
        f"{profile.length} tokens from the split {profile.split} of {profile.dataset}"
        for name, profile in drawn.items()
        if name == name_of(profile.dataset, profile.split)
    ]
