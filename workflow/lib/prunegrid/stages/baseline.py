"""The step `baseline`: predictions without a model, in the same file as a model's.

Parents: data. Files: predictions.parquet.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.errors import PrunegridError

_OF_STEP = {"baseline", "split", "rows", "seed"}
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


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {rows, weights: None}; write predictions.parquet to `out`.

    Args:
        settings: {"baseline": name of a file in `baselines`, "split", "rows" (the first so many;
            None: all), and the baseline's own settings; None there means the default}.
        parents: {"data": folder with <split>.parquet}.
        out: folder of the new artifact.
        job: gives the seed, where the settings hold one.

    Raises:
        PrunegridError: the split, the baseline or a setting is unknown.
    """
    rows = _rows(parents["data"], settings["split"], settings.get("rows"))
    name = settings["baseline"]
    baseline = _load(name)
    own = {k: v for k, v in settings.items() if k not in _OF_STEP and v is not None}
    unknown = sorted(own.keys() - baseline.SETTINGS.keys())
    if unknown:
        raise PrunegridError(
            f"unknown setting '{unknown[0]}'",
            where=f"baseline {name}",
            expected=f"one of {sorted(baseline.SETTINGS)}",
        )
    seed = job.seed(f"baseline {name}") if "seed" in settings else None
    texts = baseline.predict(rows, {**baseline.SETTINGS, **own}, seed)
    count = len(rows)
    columns = {
        "id": rows["id"].to_list(),
        "reference": rows["summary"].to_list(),
        "prediction": texts,
        "prompt_tokens": [None] * count,
        "prediction_tokens": [None] * count,
        "hit_limit": [False] * count,
        "cut": [False] * count,
    }
    pq.write_table(pa.table(columns, schema=SCHEMA), out / "predictions.parquet")
    return {"rows": count, "weights": None}


def _load(name: str) -> ModuleType:
    module = f"prunegrid.baselines.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module) is None:
        raise PrunegridError(
            f"there is no baseline '{name}'", expected="the name of a file in prunegrid/baselines"
        )
    return importlib.import_module(module)


def _rows(folder: Path, split: str, limit: int | None) -> pd.DataFrame:
    """Return the first `limit` rows of a split."""
    path = folder / f"{split}.parquet"
    if not path.is_file():
        found = sorted(p.stem for p in folder.glob("*.parquet"))
        raise PrunegridError(
            f"the data set has no split '{split}'", where=str(folder), expected=f"one of {found}"
        )
    rows = pq.read_table(path).to_pandas()
    missing = {"id", "document", "summary"} - set(rows.columns)
    if missing:
        raise PrunegridError(f"the column {sorted(missing)[0]} is missing", where=str(path))
    return rows if limit is None else rows.head(limit)
