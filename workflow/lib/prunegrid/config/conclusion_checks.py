"""Checks of the names in published conclusions: studies, models, data, splits, metrics, columns.

Every run checks all of them at its start but columns of the table, which only tables know.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping

from prunegrid.common.errors import nearest
from prunegrid.config.conclusions import Conclusion
from prunegrid.config.config_files import ConfigError
from prunegrid.config.evaluations.kind import declared_columns, metric_columns
from prunegrid.config.fault import Fault
from prunegrid.config.validated import Config

# The Python types of a column's values, by its own type.
_TYPES = {"string": (str,), "boolean": (bool,), "Int64": (int,), "Float64": (int, float)}


def faults(config: Config) -> Iterator[Fault]:
    """Yield the faults of all conclusions, keys below `claims`."""
    names = [*config.broken, *((s, name) for s in config.sections for name in config.sections[s])]
    sections = {"study": "studies", "model": "models", "dataset": "datasets"}
    known = {key: {n for s, n in names if s == section} for key, section in sections.items()}
    if not any(section in ("evaluations", "metrics", "tasks") for section, _ in config.broken):
        known["split"], known["metric"] = _measured(config)
        if any(_is_undeclared(config, name) for name in config.sections["metrics"]):
            del known["metric"]
    for name, claim in config.sections["claims"].items():
        named = {("scope", key): (key, getattr(claim.scope, key)) for key in known}
        if claim.kind == "measure":
            named.pop(("scope", "metric"), None)  # a column of the table
        if getattr(claim, "with_more", None) and "metric" in known:
            named[("with_more",)] = ("metric", [claim.with_more])
        for keys, (key, patterns) in named.items():
            for pattern in patterns:
                if not _is_known(pattern, known[key]):
                    text = f"is '{pattern}', which names no {key}; {nearest(pattern, known[key])}"
                    yield Fault((name, *keys), text)


def _is_undeclared(config: Config, metric: str) -> bool:
    """Return whether a metric's columns are unknown: it is the hub's, or has a fault of its own."""
    return not declared_columns(config, metric)


def _is_known(pattern: str, known: Iterable[str]) -> bool:
    """Return whether a pattern fits a name, or a name's own pattern fits it."""
    return pattern == "*" or any(
        fnmatch.fnmatchcase(*both) for k in known for both in ((k, pattern), (pattern, k))
    )


def _measured(config: Config) -> tuple[set[str], set[str]]:
    """Return the splits and the metrics (or patterns of their names) of all evaluations."""
    splits, metrics = set(), set(metric_columns(config, config.sections["metrics"]))
    for name, evaluation in config.sections["evaluations"].items():
        measured = evaluation.measures(config, name)
        splits |= measured.keys()
        metrics.update(*measured.values())
    return splits, metrics


def require_columns(
    claims: Mapping[str, Conclusion], known: Mapping[str, str], place: Callable[..., str]
) -> None:
    """Check that sides, `match` and measures name columns, with values of their types.

    Args:
        known: {column: its type} of the table.
        place: returns file and dotted key of a path of keys.

    Raises:
        ConfigError: some are not; its text lists them all.
    """
    lines = [
        f"{place('claims', name, *fault.keys)} {fault.text}"
        for name, claim in claims.items()
        for fault in _column_faults(claim, known)
    ]
    if lines:
        raise ConfigError(lines)


def _column_faults(claim: Conclusion, known: Mapping[str, str]) -> Iterator[Fault]:
    """Yield the faults of a conclusion's columns, keys below it."""
    sides = {(side, name): name for side in "ab" for name in getattr(claim, side)}
    used = sides | {("match", index): name for index, name in enumerate(claim.match)}
    if claim.kind == "measure":
        used["scope", "metric"] = claim.scope.metric[0]
    for keys, name in used.items():
        if name not in known:
            text = f"names '{name}', which is no column of the table; {nearest(name, known)}"
            yield Fault(keys, text)
        elif keys[0] == "scope" and int not in _TYPES[known[name]]:
            yield Fault(keys, f"is '{name}', which is no number")
        elif keys in sides:
            for value in getattr(claim, keys[0])[name]:
                if value is not None and type(value) not in _TYPES[known[name]]:
                    yield Fault(keys, f"is {value!r}; expected a value of type {known[name]}")
