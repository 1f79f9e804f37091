"""The profiles that a config may hold: one class a section, one field a key.

Checks that need other sections are in `reference_checks`.
"""

from __future__ import annotations

import datetime
import functools
import operator
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from prunegrid.config import conclusions
from prunegrid.config.evaluations import kinds
from prunegrid.config.profile import Name, NonNegative, Positive, Precision, Profile, Rate
from prunegrid.config.steps import Finetune, Prune
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

    @model_validator(mode="after")
    def _fits_source(self) -> Model:
        if self.source.startswith("pypi:") and not (self.file and self.sha256):
            raise ValueError("a pypi: source needs `file` (inside the wheel) and its `sha256`")
        if (self.source == "random:") != (self.config is not None):
            raise ValueError(
                "`config` (with model_type) belongs to a random: source, and only to it"
            )
        return self


class Dataset(Profile):
    """A data set: its source, the columns that matter, the prompt, and how inputs are cut.

    Or a mixture of others. Kind `rows` has all columns as they are, for tasks and mixtures.
    """

    source: str | None = None
    mixture: Mixture | None = None
    revision: str | None = None
    subset: str | None = None
    files: dict[str, str | list[str]] | str | list[str] | None = None
    sha256: dict[str, str] | str | None = None
    format: Literal["jsonl", "parquet", "csv", "text", "mediawiki"] | None = None
    kind: Literal["summaries", "text", "rows"] = "summaries"
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

    @model_validator(mode="after")
    def _whole(self) -> Dataset:
        if (self.source is None) == (self.mixture is None):
            raise ValueError("give `source` or `mixture`")
        if self.chat_date is not None:
            _require_date(self.chat_date, self.chat)
        if self.mixture is not None:
            idle = self.model_fields_set - {"mixture", "splits", "chat", "chat_date", "end"}
            if idle:
                raise ValueError(f"a mixture does not use {sorted(idle)}; remove them")
            return self
        wanted = {"summaries": {"document", "summary"}, "text": {"text"}, "rows": set()}[self.kind]
        missing = wanted - set(self.columns)
        if missing:
            raise ValueError(f"columns lacks {sorted(missing)}; kind {self.kind} needs them")
        if self.kind == "rows" and self.leaks == "refuse":
            raise ValueError("kind rows is compared in mixtures; set leaks there")
        if self.kind == "rows" and {"document", "summary"} & set(self.columns):
            raise ValueError("kind rows keeps all columns; `columns` may name its id and text")
        if self.kind == "summaries" and self.prompt.count("{document}") != 1:
            raise ValueError("prompt must hold {document} exactly once")
        if self.source.startswith("pypi:") and not (self.files and self.sha256):
            raise ValueError("a pypi: source needs `files` (inside the wheel) and their `sha256`")
        if self.source.startswith("pypi:") and self.named_files != self._single_files():
            raise ValueError("a pypi: source has one file for each split, and no lists")
        return self

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
        columns = {"summaries": "document", "text": "text"}
        return columns.get(self.kind, self.columns.get("text"))

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


def _require_date(text: str, chat: bool) -> None:
    if not chat:
        raise ValueError("`chat_date` is what a chat template reads; set chat: true")
    try:
        datetime.date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f'chat_date is {text!r}; expected "2024-07-26", in quotes') from error


class Calibration(Profile):
    """Calibration samples: windows of tokens drawn from a data set."""

    dataset: str
    split: str
    samples: Positive = 128
    length: Annotated[int, Field(ge=2)] = 2048
    column: Literal["text", "document"] = "text"
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

    @model_validator(mode="after")
    def _no_idle_keys(self) -> Generation:
        idle = {"temperature", "top_p"} & self.model_fields_set
        if idle and not self.do_sample:
            raise ValueError(f"greedy decoding does not use {sorted(idle)}; set do_sample: true")
        return self


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
