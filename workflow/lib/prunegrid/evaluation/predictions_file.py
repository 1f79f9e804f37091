"""The file of predictions: one schema for what models wrote and for the controls beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from prunegrid.data.prompts import Prompt
    from prunegrid.evaluation.generation import Prediction

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
# Columns that only generation can fill; null in the files of controls.
GENERATED = ("prompt_tokens", "prediction_tokens", "hit_limit", "cut")


def write(columns: Mapping[str, Sequence[Any]], folder: Path) -> None:
    """Write the columns of SCHEMA to the file of an artifact."""
    pq.write_table(pa.table(dict(columns), schema=SCHEMA), folder / NAME)


def write_generated(
    rows: Sequence[Mapping],
    references: Sequence[str],
    prompts: Sequence[Prompt],
    predictions: Sequence[Prediction],
    folder: Path,
) -> dict[str, Any]:
    """Write the file of a model's predictions; return their counts and shares for the record.

    Args:
        rows: of the data set, with id and summary.
        references, prompts, predictions: one a row.
    """
    columns = {
        "id": [row["id"] for row in rows],
        "reference": list(references),
        "prediction": [p.text for p in predictions],
        "prompt_tokens": [len(p.ids) for p in prompts],
        "prediction_tokens": [p.tokens for p in predictions],
        "hit_limit": [p.hit_limit for p in predictions],
        "cut": [p.cut for p in prompts],
    }
    write(columns, folder)
    count = len(rows)
    return {
        "rows": count,
        "share_cut_words": sum(p.cut_words for p in prompts) / count,
        "contexts_cut": sum(p.cut_context for p in prompts),
        "share_hit_limit": sum(columns["hit_limit"]) / count,
        "references_cut": sum(
            text != row["summary"] for text, row in zip(references, rows, strict=True)
        ),
        "prompt_tokens": sum(columns["prompt_tokens"]),
    }


def read(folder: Path, ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the predictions of an artifact, in the order of its file; only those of `ids`."""
    chosen = None if ids is None else [("id", "in", list(ids))]
    # Integers stay so, and their nulls None, in the files of controls too.
    return pq.read_table(folder / NAME, filters=chosen).to_pandas(integer_object_nulls=True)
