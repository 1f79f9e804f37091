"""Checks of a plugin's settings: each is known to it, and of the type of its default.

They are looked for in what is written: a profile that is wrong in another key has them too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config.evaluations.texts import Baseline
from prunegrid.config.fault import Fault
from prunegrid.config.finetune_step import Finetune
from prunegrid.config.profiles import Metric
from prunegrid.config.prune_step import Prune
from prunegrid.config.renamed import successor_of_key


def faults(section: str, body: Any, base: Path) -> Iterator[Fault]:
    """Yield the faults of the settings in a written profile of a section, keys below it.

    Args:
        base: the folder that a user's files start from.
    """
    if not isinstance(body, Mapping):
        return
    if section in _LOOKS:
        yield from _of_one(section, *_LOOKS[section], body, base)
    controls = body.get("baselines") if section == "evaluations" else None
    for name, control in controls.items() if isinstance(controls, Mapping) else ():
        if isinstance(control, Mapping):
            for fault in _of_one("baselines", Baseline, _of_baseline, control, base):
                yield Fault(("baselines", name, *fault.keys), fault.text)


def _of_one(
    section: str, kind: Any, look: Callable[..., Any], body: Mapping, base: Path
) -> Iterator[Fault]:
    plugin, settings = look(body, base)
    if settings is None:  # of a metric of the hub any may be right
        return
    own = {key: value for key, value in body.items() if key not in kind.model_fields}
    for fault in odd(own, settings, plugin):
        if fault.keys[0] in settings:
            yield fault
            continue
        hint = successor_of_key(section, fault.keys[0], {*kind.model_fields, *settings})
        text = f"is not a key here, nor a setting of {plugin}" if plugin else "is not a key here"
        yield Fault(fault.keys, f"{text}; {hint}")


def odd(settings: Mapping[str, Any], known: Mapping[str, Any], plugin: str) -> Iterator[Fault]:
    """Yield a fault for each setting that a plugin does not know, or that is of another type.

    Args:
        known: {setting: its default}.
    """
    for key, value in settings.items():
        if key not in known:
            yield Fault((key,), f"is not a setting of {plugin}; {nearest(key, known)}")
        elif not _is_like(value, known[key]):
            yield Fault((key,), f"is {value!r}; expected one like {known[key]!r}")


def _is_like(value: Any, default: Any) -> bool:
    if default is None or value is None:  # which values it takes, its default does not show
        return True
    if isinstance(value, bool) or isinstance(default, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, (type(default), int) if isinstance(default, float) else type(default))


def _settings(kind: str, look: Callable[..., Any], name: Any, *more: Any) -> tuple[str, Any]:
    """Return (name, settings) of a plugin; ("", those of all) where there is none of the name."""
    try:
        facts = look(name, *more)
        return name, facts and facts["SETTINGS"]
    except (PrunegridError, TypeError, AttributeError):  # it has a fault of its own
        return "", plugins.settings_of_all(kind)


def _of_prune(body: Mapping, base: Path) -> tuple[str, Any]:
    pattern = body.get("pattern")
    if body.get("method") == "dense":  # which takes no key at all
        return "", None
    structured = pattern == "structured"
    kind = "criterion of structured pruning" if structured else "pruning method"
    return _settings(kind, plugins.facts_for, body.get("method"), pattern)


def _of_finetune(body: Mapping, base: Path) -> tuple[str, Any]:
    return _settings("strategy", plugins.strategy_facts, body.get("strategy"))


def _of_metric(body: Mapping, base: Path) -> tuple[str, Any]:
    return _settings("metric", plugins.metric_facts, body.get("module"), base)


def _of_baseline(body: Mapping, base: Path) -> tuple[str, Any]:
    return _settings("baseline", plugins.baseline_facts, body.get("method"))


_LOOKS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "prune": (Prune, _of_prune),
    "finetune": (Finetune, _of_finetune),
    "metrics": (Metric, _of_metric),
}
