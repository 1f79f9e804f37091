"""Checks of evaluations that read their own data, and that a study's models fit its evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prunegrid.common.errors import nearest
from prunegrid.config.families import FITS, Classification, Translation, fits
from prunegrid.config.fault import Fault
from prunegrid.config.split_checks import shared

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def data_faults(config: Config, evaluation: Classification | Translation) -> Iterator[Fault]:
    """Yield the faults of an evaluation's data, keys below it; that it exists is checked elsewhere.

    A classification reads rows; a translation documents with their translations as summaries.
    """
    dataset = config.sections["datasets"].get(evaluation.dataset)
    if dataset is None:
        return
    wanted = "rows" if evaluation.kind == "classification" else "summaries"
    kind = "summaries" if dataset.mixture is not None else dataset.kind
    if kind != wanted:
        text = f"is '{evaluation.dataset}', of kind {kind}; {evaluation.kind} reads kind {wanted}"
        yield Fault(("dataset",), text)
    idle = [key for key in ("chat", "end", "max_tokens") if getattr(dataset, key)]
    if idle and evaluation.kind == "translation":
        text = f"is '{evaluation.dataset}', which sets {idle}: a translation does not use them; "
        yield Fault(("dataset",), f"{text}name a data set without")
    for key in ("train_split", "split"):
        split = getattr(evaluation, key, None)
        if split is not None and split not in dataset.splits:
            known = nearest(split, dataset.splits)
            yield Fault((key,), f"is '{split}', no split of '{evaluation.dataset}'; {known}")
    name, learned = evaluation.dataset, getattr(evaluation, "train_split", None)
    if learned is not None and shared(config, (name, learned), (name, evaluation.split)):
        text = f"is '{learned}', which shares rows with '{evaluation.split}', which is scored; "
        yield Fault(("train_split",), f"{text}slice them apart")


def model_faults(
    config: Config, evaluations: Sequence[str], models: Sequence[str]
) -> Iterator[Fault]:
    """Yield the faults of a study's models: each is asked something, and has a tokenizer.

    Args:
        evaluations: of the study; names.
        models: of its grid; names.
    """
    named = {name: config.sections["evaluations"].get(name) for name in evaluations}
    tasks = {name: config.sections["models"][name].task for name in models}
    if None in named.values():  # told already
        return
    for name, task in tasks.items():
        if not any(fits(evaluation, task) for evaluation in named.values()):
            kinds = ", ".join(sorted(kind for kind, asked in FITS.items() if task in asked))
            text = f"has the model '{name}', of the task {task}, which none of its evaluations "
            yield Fault(("grid",), f"{text}asks; {kinds} would")
        if not config.sections["models"][name].tokenizer:
            yield Fault(("grid",), f"has the model '{name}', which has no tokenizer")
    for name, evaluation in named.items():
        if tasks and not any(fits(evaluation, task) for task in tasks.values()):
            asked = " or ".join(FITS[evaluation.kind])
            text = f"names '{name}', of kind {evaluation.kind}, which asks models of the task "
            yield Fault(("evaluations",), f"{text}{asked}; the grid has none")
