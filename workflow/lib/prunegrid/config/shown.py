"""The columns that a study shows in its page and figure: `show`, and a user's own metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prunegrid.common.errors import nearest
from prunegrid.config.evaluations.kind import metric_columns
from prunegrid.config.fault import Fault
from prunegrid.config.studies import Study
from prunegrid.config.validated import Config


def own_metrics(config: Config, study: Study) -> list[str]:
    """Return the columns of metrics that are a user's own or a hub's, evaluation by evaluation.

    A name that ends in "_" stands for all columns that begin so: the metric does not declare them.
    """
    own: dict[str, None] = {}
    for evaluation in study.evaluations:
        for name in getattr(config.profile("evaluations", evaluation), "metrics", ()):
            profile = config.sections["metrics"].get(name)
            if profile and not profile.module.isidentifier():  # a path, or `hf:…`
                columns = metric_columns(config, [name])
                own |= dict.fromkeys(column.removesuffix("*") for column in columns)
    return list(own)


def faults(config: Config, study: Study) -> Iterator[Fault]:
    """Yield a fault for each name of `show` that is no metric or column of the study."""
    known: dict[str, None] = {}
    for name in study.evaluations:
        evaluation = config.sections["evaluations"].get(name)
        if evaluation is None or config.is_broken("evaluations", name):
            return  # it has a fault of its own
        for split, metrics in evaluation.measures(config, name).items():
            if any("*" in metric for metric in metrics):  # its columns are not known
                return
            known |= dict.fromkeys([*metrics, *(f"{split}_{metric}" for metric in metrics)])
    for index, name in enumerate(study.show):
        if name not in known:
            text = f"is '{name}', which is not measured; {nearest(name, known)}"
            yield Fault(("show", index), text)
        elif name in study.show[:index]:
            yield Fault(("show", index), f"is '{name}' a second time")
