"""Checks of what published conclusions name: studies, models, data sets, splits, metrics, columns.

Every start of a run checks all but the columns: those of the table are known to tables alone.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.perplexity_names import metric_name
from prunegrid.config.conclusions import Conclusion
from prunegrid.config.config_files import ConfigError
from prunegrid.config.fault import Fault

if TYPE_CHECKING:
    from prunegrid.config.validated import Config

# What the values of a column may be, by its type.
_TYPES = {"string": (str,), "boolean": (bool,), "Int64": (int,), "Float64": (int, float)}


def faults(config: Config, raw: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield the faults of all conclusions, keys below `claims`.

    Args:
        raw: the unvalidated config: what names a broken profile of it has no fault of its own.
    """
    written = {name: set(raw[name]) for name in raw if isinstance(raw[name], Mapping)}
    sections = {"study": "studies", "model": "models", "dataset": "datasets"}
    known = {key: written.get(section, set()) for key, section in sections.items()}
    if all(
        written.get(s, set()) <= {*config.sections[s]} for s in ("evaluations", "metrics", "tasks")
    ):
        known["split"], known["metric"] = _measured(config)
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


def _is_known(pattern: str, known: Iterable[str]) -> bool:
    """Return whether a pattern fits a name, or a name's own pattern fits it."""
    return pattern == "*" or any(
        fnmatch.fnmatchcase(*both) for k in known for both in ((k, pattern), (pattern, k))
    )


def _measured(config: Config) -> tuple[set[str], set[str]]:
    """Return the splits and the metrics of all evaluations.

    Of a metric that does not declare its columns there is the pattern of their names too.
    """
    splits, metrics = set(), set()
    for name, evaluation in config.sections["evaluations"].items():
        tasks = evaluation.measures(config, name)
        splits |= {*evaluation.columns_of(), *tasks, *([name] if evaluation.OWN_SPLITS else [])}
        metrics |= {metric for some in tasks.values() for metric in some}
        if evaluation.kind == "perplexity":
            metrics.add(metric_name(evaluation.protocol, evaluation.window, evaluation.stride))
    for name, profile in config.sections["metrics"].items():
        try:
            declared = plugins.metric_columns(name, profile.module, config.base)
        except PrunegridError:  # told already
            declared = None
        metrics |= set(declared or (name, f"{name}_*"))
    return splits, metrics


def require_columns(
    claims: Mapping[str, Conclusion], known: Mapping[str, str], place: Callable[..., str]
) -> None:
    """Check that sides, `match` and what is measured are columns, with values of their types.

    Args:
        known: {column: its type} of the table.
        place: gives file and dotted key of a path of keys.

    Raises:
        ConfigError: some are not; its text lists them all.
    """
    found = [
        f"{place('claims', name, *fault.keys)} {fault.text}"
        for name, claim in claims.items()
        for fault in _column_faults(claim, known)
    ]
    if found:
        raise ConfigError(found)


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
