"""Checks of pruning and fine-tuning steps: methods, settings and calibration exist and fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.config.fault import Fault, unknown
from prunegrid.config.renamed import successor_of_key
from prunegrid.config.steps import Finetune, Prune
from prunegrid.config.validated import Config


def prune_faults(config: Config, prune: Prune) -> Iterator[Fault]:
    """Yield the faults of a pruning step."""
    if prune.method == "dense":
        return
    try:
        facts = plugins.facts_for(prune.method, prune.pattern)
    except PrunegridError as error:
        yield Fault(("method",), f"is '{prune.method}': {error.what}; {error.remedy}")
        return
    for key in prune.model_extra or {}:
        if key not in facts["SETTINGS"]:
            known = nearest(key, set(Prune.model_fields) | set(facts["SETTINGS"]))
            yield Fault((key,), f"is not a setting of {prune.method}; {known}")
    if prune.scope is not None and prune.scope not in facts.get("SCOPES", ()):
        known = " or ".join(facts["SCOPES"])
        yield Fault(("scope",), f"is '{prune.scope}'; {prune.method} knows {known}")
    needs = [(prune.method, facts["NEEDS"])]
    for kind, look in (("update", plugins.update_facts), ("allocation", plugins.allocation_facts)):
        name = getattr(prune, kind)
        if name is None:
            continue
        try:
            part = look(name)
        except PrunegridError as error:
            yield Fault((kind,), f"is '{name}': {error.what}; {error.remedy}")
            continue
        settings = f"{kind}_settings"
        yield from unknown_settings((settings,), name, getattr(prune, settings), part["SETTINGS"])
        needs.append((name, part["NEEDS"]))
    needy = [name for name, need in needs if need != "nothing"]
    if not needy and prune.calibration is not None:
        yield Fault(("calibration",), f"is not used by {prune.method}; remove it")
    if needy and prune.calibration is None:
        yield Fault(("calibration",), f"is missing: {needy[0]} needs calibration samples")
    if prune.biases and facts["NEEDS"] != "nothing":
        yield Fault(("biases",), f"{prune.method} cannot prune biases; remove it")
    yield from unknown(config, ("calibration",), "calibration", prune.calibration)


def unknown_settings(
    keys: tuple, plugin: str, settings: Mapping | None, known: Mapping
) -> Iterator[Fault]:
    """Yield a fault for each setting that a plugin does not know."""
    for key in settings or {}:
        if key not in known:
            yield Fault((*keys, key), f"is not a setting of {plugin}; {nearest(key, known)}")


def finetune_faults(config: Config, finetune: Finetune) -> Iterator[Fault]:
    """Yield the faults of a fine-tuning step."""
    known = plugins.strategy_facts(finetune.strategy)["SETTINGS"]
    for key, value in (finetune.model_extra or {}).items():
        if key not in known:
            hint = successor_of_key("finetune", key, {*Finetune.model_fields, *known})
            yield Fault((key,), f"is not a key here; {hint}")
        elif isinstance(value, bool) or not isinstance(value, (type(known[key]), int)):
            yield Fault((key,), f"is {value!r}; expected one like {known[key]!r}")
    yield from unknown(config, ("calibration",), "calibration", finetune.calibration)
