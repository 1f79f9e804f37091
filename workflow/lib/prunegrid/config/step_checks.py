"""Checks of pruning and fine-tuning steps: methods, settings and calibration exist and fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.config import default_calibration, plugin_settings
from prunegrid.config.fault import Fault, below, unknown
from prunegrid.config.finetune_step import Finetune
from prunegrid.config.prune_step import Prune
from prunegrid.config.validated import Config


def prune_faults(config: Config, prune: Prune) -> Iterator[Fault]:
    """Yield the faults of a pruning step."""
    written = prune.model_dump(exclude_unset=True)
    yield from plugin_settings.faults("prune", written, config.base)
    if prune.method == "dense":
        return
    try:
        facts = plugins.facts_for(prune.method, prune.pattern)
    except PrunegridError as error:
        yield Fault(("method",), f"is '{prune.method}': {error.what}; {error.remedy}")
        return
    scopes = facts.get("SCOPES")  # structured criteria have none
    if scopes is not None and prune.scope is not None and prune.scope not in scopes:
        known = " or ".join(scopes)
        yield Fault(("scope",), f"is '{prune.scope}'; {prune.method} knows {known}")
    known = facts.get("UNITS", prune.units or ())  # criteria of whole units have some
    if odd := [unit for unit in prune.units or () if unit not in known]:
        yield Fault(("units",), _unfit(prune, odd[0], known))
    own = {**facts["SETTINGS"], **(prune.model_extra or {})}
    if own.get("add_biases") and not own.get("compensate", True):
        yield Fault(("add_biases",), "is true and `compensate` false: they stay zero; remove one")
    needs = [(prune.method, facts["NEEDS"])]
    for kind, name in plugins.parts_of(prune).items():
        try:
            part = plugins.part_facts(kind, name)
        except PrunegridError as error:
            yield Fault((kind,), f"is '{name}': {error.what}; {error.remedy}")
            continue
        settings = f"{kind}_settings"
        found = plugin_settings.odd(getattr(prune, settings), part["SETTINGS"], name)
        yield from below((settings,), found)
        needs.append((name, part["NEEDS"]))
    yield from _refined_faults(prune, facts)
    needy = [name for name, need in needs if need != "nothing"]
    if not needy and prune.calibration is not None:
        yield Fault(("calibration",), f"is not used by {prune.method}; remove it")
    # A study of a text of the user's own gives one; else the study has the fault.
    if needy and prune.calibration is None and not default_calibration.gives(config):
        yield Fault(("calibration",), f"is missing: {needy[0]} needs calibration samples")
    if prune.biases and facts["NEEDS"] != "nothing":
        yield Fault(("biases",), f"{prune.method} cannot prune biases; remove it")
    yield from unknown(config, ("calibration",), "calibration", prune.calibration)


def _refined_faults(prune: Prune, facts: dict) -> Iterator[Fault]:
    """Yield the faults of a step whose refined mask the method's own weights would not fit."""
    if prune.refine is not None and prune.update is None and facts.get("UPDATES"):
        text = f"is missing: {prune.method} updates its weights for its own mask, which `refine`"
        yield Fault(("update",), f"{text} changes; name one (none leaves the weights as they were)")


def _unfit(prune: Prune, unit: str, known: Iterable[str]) -> str:
    """Return what to say of units that the criterion has no scores for."""
    fit = [
        name
        for name in plugins.files("criterion of structured pruning")
        if unit in plugins.criterion_facts(name)["UNITS"]
    ]
    return (
        f"are {prune.units}: {prune.method} scores {', '.join(known)}; "
        f"for [{unit}] take {' or '.join(fit)}"
    )


def finetune_faults(config: Config, finetune: Finetune) -> Iterator[Fault]:
    """Yield the faults of a fine-tuning step."""
    written = finetune.model_dump(exclude_unset=True)
    yield from plugin_settings.faults("finetune", written, config.base)
    yield from unknown(config, ("calibration",), "calibration", finetune.calibration)
