"""What a study shows in its page and figure: checks of `show`, and a user's own metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.perplexity_names import metric_name
from prunegrid.config import contrasts, profiles
from prunegrid.config.fault import Fault

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def own_metrics(config: Config, study: profiles.Study) -> list[str]:
    """Return the columns of metrics that are a user's own or a hub's, evaluation by evaluation.

    A name that ends in "_" stands for all columns that begin so: the metric does not declare them.
    """
    found: dict[str, None] = {}
    for evaluation in study.evaluations:
        for name in getattr(config.profile("evaluations", evaluation), "metrics", ()):
            profile = config.sections["metrics"].get(name)
            if profile and not profile.module.isidentifier():  # a path, or `hf:…`
                declared = plugins.metric_columns(name, profile.module, config.base)
                found |= dict.fromkeys(declared or (name, f"{name}_"))
    return list(found)


def faults(config: Config, study: profiles.Study) -> Iterator[Fault]:
    """Yield a fault for each name of `show` that is no metric or column of the study."""
    named = {name: config.sections["evaluations"].get(name) for name in study.evaluations}
    if not study.show or None in named.values():
        return  # a missing evaluation is told already
    known: dict[str, None] = {}
    for name, evaluation in named.items():
        measured = _measured(config, name, evaluation)
        if measured is None:
            return  # a metric that does not say its columns
        for split, metrics in measured.items():
            known |= dict.fromkeys([*metrics, *(f"{split}_{metric}" for metric in metrics)])
    for index, name in enumerate(study.show):
        if name not in known:
            text = f"is '{name}', which is not measured; {nearest(name, known)}"
            yield Fault(("show", index), text)
        elif name in study.show[:index]:
            yield Fault(("show", index), f"is '{name}' a second time")


def _measured(config: Config, name: str, evaluation: Any) -> dict[str, list[str]] | None:
    """Return {split: metrics} of an evaluation; None where not all can be known."""
    if evaluation.kind == "perplexity":
        return {name: [metric_name(evaluation.protocol, evaluation.window, evaluation.stride)]}
    if evaluation.kind not in ("texts", "translation"):
        return evaluation.measures(config, name)
    try:
        undeclared = any(
            plugins.metric_columns(metric, profile.module, config.base) == {}
            for metric in evaluation.metrics
            if (profile := config.sections["metrics"].get(metric))
        )
    except PrunegridError:  # told already
        return None
    columns = contrasts.columns_of(config, evaluation)
    if columns is None or undeclared:
        return None
    splits = evaluation.splits if evaluation.kind == "texts" else [name]
    return {split: list(columns) for split in splits}
