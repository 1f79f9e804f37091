"""The step `baseline`: predictions without a model, in the same file as a model's.

Parents: data. Files: predictions.parquet.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd

from prunegrid.common.errors import PrunegridError
from prunegrid.data.rows import read_rows
from prunegrid.evaluation import predictions_file

DOES = "baseline"
RULE = "baseline"
PACKAGES = ("pandas", "pyarrow")
GROUP = "controls"
START_SECONDS = 2
MEMORY_MB = 180

_OF_STEP = {"baseline", "split", "rows", "seed", "prompt"}


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {rows, weights: None}; write predictions.parquet to `out`.

    Args:
        settings: {"baseline": name of a file in `baselines`, "split", "rows" (the first so many;
            None: all), "prompt" where it reads that, and the baseline's own settings; None there
            means the default}.
        parents: {"data": folder with <split>.parquet}.
        out: folder of the new artifact.
        job: gives the seed, where the settings hold one.

    Raises:
        PrunegridError: the split, the baseline or a setting is unknown.
    """
    name = settings["baseline"]
    where = f"baseline {name}"
    baseline = _load(name)
    rows = pd.DataFrame(read_rows(parents["data"], settings["split"], settings.get("rows"), where))
    own = {k: v for k, v in settings.items() if k not in _OF_STEP and v is not None}
    unknown = sorted(own.keys() - baseline.SETTINGS.keys())
    if unknown:
        raise PrunegridError(
            f"unknown setting '{unknown[0]}'",
            where=where,
            expected=f"one of {sorted(baseline.SETTINGS)}",
        )
    read = {"prompt": settings["prompt"]} if "prompt" in settings else {}
    seed = job.seed(where) if "seed" in settings else None
    texts = baseline.predict(rows, {**baseline.SETTINGS, **own, **read}, seed)
    count = len(rows)
    columns = {
        "id": rows["id"].to_list(),
        "reference": rows["summary"].to_list(),
        "prediction": texts,
        # Nothing was tokenized and nothing generated: no lengths, no limit, no cut.
        **{column: [None] * count for column in predictions_file.GENERATED},
    }
    predictions_file.write(columns, out)
    return {"rows": count, "weights": None}


def _load(name: str) -> ModuleType:
    module = f"prunegrid.evaluation.baselines.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module) is None:
        raise PrunegridError(
            f"there is no baseline '{name}'", expected="the name of a file in prunegrid/baselines"
        )
    return importlib.import_module(module)
