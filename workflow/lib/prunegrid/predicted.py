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


def read(folder: Path, ids: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the predictions of an artifact, in the order of its file; only those of `ids`."""
    chosen = None if ids is None else [("id", "in", list(ids))]
    # Integers stay so, and their nulls None, in the files of controls too.
    return pq.read_table(folder / NAME, filters=chosen).to_pandas(integer_object_nulls=True)
