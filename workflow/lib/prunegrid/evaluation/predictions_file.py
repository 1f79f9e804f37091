"""The file of predictions: one schema for what models wrote and for the controls beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

NAME = "predictions.parquet"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("reference", pa.string()),
        ("prediction", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("prediction_tokens", pa.int64()),
        ("hit_limit", pa.bool_()),
        ("cut", pa.bool_()),
    ]
)
# What only generation can tell; null in the files of controls.
GENERATED = ("prompt_tokens", "prediction_tokens", "hit_limit", "cut")


def write(columns: Mapping[str, Sequence[Any]], folder: Path) -> None:
    """Write the columns of SCHEMA to the file of an artifact."""
    pq.write_table(pa.table(dict(columns), schema=SCHEMA), folder / NAME)


def columns(
    rows: Sequence[Mapping], references: Sequence[str], asked: Sequence[Any], made: Sequence[Any]
) -> dict[str, list]:
    """Return the columns of what a model wrote.

    Args:
        rows: of the data set, with their ids.
        references: a text each.
        asked: a `prompts.Prompt` each.
        made: a `generation.Prediction` each.
    """
    return {
        "id": [row["id"] for row in rows],
        "reference": list(references),
        "prediction": [p.text for p in made],
        "prompt_tokens": [len(p.ids) for p in asked],
        "prediction_tokens": [p.tokens for p in made],
        "hit_limit": [p.hit_limit for p in made],
        "cut": [p.cut for p in asked],
    }


def facts(
    rows: Sequence[Mapping], references: Sequence[str], asked: Sequence[Any], made: Sequence[Any]
) -> dict[str, Any]:
    """Return the counts and shares of the same, for the record."""
    count = len(rows)
    return {
        "rows": count,
        "share_cut_words": sum(p.cut_words for p in asked) / count,
        "share_cut_context": sum(p.cut_context for p in asked) / count,
        "share_hit_limit": sum(p.hit_limit for p in made) / count,
        "references_cut": sum(
            text != row["summary"] for text, row in zip(references, rows, strict=True)
        ),
        "prompt_tokens": sum(len(p.ids) for p in asked),
    }


def read(folder: Path, ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the predictions of an artifact, in the order of its file; only those of `ids`."""
    chosen = None if ids is None else [("id", "in", list(ids))]
    # Integers stay so, and their nulls None, in the files of controls too.
    return pq.read_table(folder / NAME, filters=chosen).to_pandas(integer_object_nulls=True)
