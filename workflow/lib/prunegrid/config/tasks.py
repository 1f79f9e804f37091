"""The profiles of benchmarks (tasks of the harness) and of mixtures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from prunegrid.common.errors import nearest
from prunegrid.config import row_checks
from prunegrid.config.fault import Fault, unknown
from prunegrid.config.profile import Name, NonNegative, Positive, Profile, Rate
from prunegrid.config.validated import Config

# Keys of a harness' definition that a task's own keys replace, or that lead to unkeyed files.
OF_OURS = frozenset(
    (
        *("task", "group", "tag", "include", "class", "custom_dataset", "unsafe_code"),
        *("use_prompt",),
        *("dataset_path", "dataset_name", "dataset_kwargs", "num_fewshot"),
        *("training_split", "validation_split", "test_split", "fewshot_split"),
    )
)
# The harness' own metrics. It takes any other name for code to fetch and run.
METRICS = frozenset(
    (
        *("acc", "acc_all", "acc_bytes", "acc_mutual_info", "acc_norm", "bits_per_byte", "bleu"),
        *("brier_score", "bypass", "byte_perplexity", "chrf", "chrf++", "exact_match", "f1"),
        *("likelihood", "mcc", "perplexity", "ter", "word_perplexity"),
    )
)


class Task(Profile):
    """A task of the harness: its data, its examples, and the metrics that are shown."""

    task: str | None = None
    define: dict[str, Any] | None = None
    dataset: str
    split: str
    shots: NonNegative = 0
    shots_from: str | None = None
    by: str | None = None
    rows: Positive | None = None
    metrics: Annotated[list[str], Field(min_length=1)] = ["acc"]

    def conflicts(self) -> Iterator[str]:
        """Yield what does not fit a definition of one's own, and examples that are scored."""
        if self.define is not None:
            if self.task is not None or self.by is not None:
                yield "`task` and `by` are of the harness' own; `define` is yours"
            yield from _misfits_of_definition(self.define)
        if (self.shots > 0) != (self.shots_from is not None):
            yield "`shots` need `shots_from` (a split), and only they do"
        if self.shots_from == self.split:
            yield f"shots_from is '{self.split}', which is scored; name another split"
        if len(set(self.metrics)) < len(self.metrics):
            yield "`metrics` names one twice"

    def faults(self, config: Config) -> Iterator[Fault]:
        """Yield what its data set lacks, and whether an example that is shown is scored."""
        yield from unknown(config, ("dataset",), "datasets", self.dataset)
        dataset = config.sections["datasets"].get(self.dataset)
        if dataset is not None and not dataset.has_items:
            text = f"is '{self.dataset}', of kind {dataset.kind}; tasks read kind rows or cloze"
            yield Fault(("dataset",), text)
        yield from row_checks.of_splits(config, self, ("split", "shots_from"))
        yield from row_checks.apart(config, self, "shots_from")


def _misfits_of_definition(define: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a definition lacks, and what in it others say or leads to code from elsewhere."""
    if "output_type" not in define or "doc_to_text" not in define:
        yield "`define` lacks output_type or doc_to_text"
    ours = sorted(OF_OURS & set(define))
    if ours:
        yield f"`define` holds {ours}, which other keys say or none may; remove them"
    listed = define.get("metric_list") or []
    whole = isinstance(listed, list) and all(isinstance(entry, dict) for entry in listed)
    if not whole or not all(isinstance(entry.get("metric"), str) for entry in listed):
        yield "`define.metric_list` is to be a list of {metric: a name, ...}"
        return
    for entry in listed:
        if entry["metric"] not in METRICS:
            yield (
                f"`define.metric_list` names '{entry['metric']}', no metric of the harness; "
                f"{nearest(entry['metric'], METRICS)}"
            )
        if "hf_evaluate" in entry:
            yield (
                "`define.metric_list` holds `hf_evaluate`, which runs code from elsewhere; "
                "remove it"
            )


class Part(Profile):
    """One data set of a mixture: its rows, how many of them, and the text made of each."""

    dataset: str
    split: str
    weight: Rate | None = None
    max_rows: Positive | None = None
    prompt: Annotated[str, Field(min_length=1)]
    response: Annotated[str, Field(min_length=1)]


class Mixture(Profile):
    """Rows of several data sets in one seeded order, none of which is evaluated."""

    parts: Annotated[dict[Name, Part], Field(min_length=1)]
    rows: Positive | None = None
    leaks: Literal["drop", "refuse"] = "drop"
    disjoint_from: list[str] = []

    def conflicts(self) -> Iterator[str]:
        """Yield a sentence if some parts have weights and others none."""
        given = [name for name, part in self.parts.items() if part.weight is not None]
        if given and len(given) < len(self.parts):
            missing = sorted(set(self.parts) - set(given))
            yield f"weight is missing in {missing}; give one to all `parts`, or to none"
