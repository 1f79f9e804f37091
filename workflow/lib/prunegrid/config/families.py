"""Evaluations of encoders and encoder-decoders, and which kind of evaluation fits which model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from prunegrid.config.profile import Positive, Profile, Rate

# What each kind of evaluation asks: models of these tasks.
FITS = {
    "texts": ("causal-lm",),
    "perplexity": ("causal-lm",),
    "tasks": ("causal-lm",),
    "classification": ("encoder", "masked-lm"),
    "translation": ("seq2seq-lm",),
}
Template = Annotated[str, Field(min_length=1)]


class Item(Profile):
    """What is made of a row: a text, or a pair of texts, and its label; Jinja templates."""

    text: Template
    pair: Template | None = None
    label: Template


class Classification(Profile):
    """An evaluation of an encoder: a head is tuned on its frozen weights, and asked other rows."""

    kind: Literal["classification"]
    dataset: str
    train_split: str
    train_rows: Positive | None = None
    split: str
    rows: Positive | None = None
    items: Annotated[list[Item], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=8)] = 128
    epochs: Positive = 10
    batch_size: Positive = 32
    learning_rate: Rate = 1e-3
    metrics: Annotated[list[Literal["acc", "mcc"]], Field(min_length=1)] = ["acc", "mcc"]

    @model_validator(mode="after")
    def _held_out(self) -> Classification:
        if self.train_split == self.split:
            raise ValueError(
                f"train_split is '{self.train_split}', which is scored; name another split"
            )
        return self


class Translation(Profile):
    """An evaluation of an encoder-decoder: translations of a split's documents, scored."""

    kind: Literal["translation"]
    dataset: str
    split: str
    rows: Positive | None = None
    languages: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    generation: str
    metrics: Annotated[list[str], Field(min_length=1)]


def fits(evaluation: Any, task: str) -> bool:
    """Return whether an evaluation asks models of a task."""
    return task in FITS[evaluation.kind]
