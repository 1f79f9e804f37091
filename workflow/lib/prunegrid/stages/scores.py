"""Stage `scores`: metrics of stored predictions, example by example.

Parents: predictions; data, where a metric reads the documents; `<metric name>.model` for each
metric that needs a model. Out: `scores.parquet` (id, one float64 column a score; null where an
example has none).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError
from prunegrid.data.rows import read_rows
from prunegrid.evaluation import predictions_file, scoring

DOES = "score"
RULE = "score"
PACKAGES = ("pandas", "pyarrow")
METRICS = True
GROUP = "evaluate"
MEMORY_MB = 700
BYTES_A_PARAMETER = 6

MODEL_ROLE = ".model"


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: corpus means, counts, what was run; write scores.parquet to `out`.

    Args:
        settings: {"metrics": {name: settings}}, see `metric_loader.load`; "split" where a metric
            reads the documents, "template" where one reads the prompt.

    Raises:
        PrunegridError: see `scoring.score` and `read_inputs`.
    """
    predictions = read_inputs(settings, parents)
    models = {
        role.removesuffix(MODEL_ROLE): folder
        for role, folder in parents.items()
        if role.endswith(MODEL_ROLE)
    }
    scores = scoring.score(predictions, settings["metrics"], models, job.device)
    pq.write_table(_table(scores.examples), out / "scores.parquet")
    return {
        "summary": scores.summary,
        "metrics": scores.facts,
        "n": len(predictions),
        "empty": scoring.count_empty(predictions),
        "predictions_sha256": file_io.file_sha256(parents["predictions"] / predictions_file.NAME),
    }


def read_inputs(settings: dict, parents: dict[str, Path]) -> pd.DataFrame:
    """Return the predictions with the columns document and template where their metrics read them.

    Raises:
        AttestationError: a prediction is of a document that the data do not hold.
    """
    predictions = predictions_file.read(parents["predictions"])
    if "split" in settings:
        rows = read_rows(parents["data"], settings["split"], None, "scores")
        documents = {row["id"]: row["document"] for row in rows}
        for identifier in sorted(set(predictions["id"]) - documents.keys()):
            raise AttestationError(
                f"the split '{settings['split']}' has no row {identifier}, which was predicted",
                where=str(parents["data"]),
                remedy="delete the predictions and run again",
            )
        predictions["document"] = [documents[identifier] for identifier in predictions["id"]]
    if "template" in settings:
        predictions["template"] = settings["template"]
    return predictions


def _table(examples: pd.DataFrame) -> pa.Table:
    """Return the scores as a table of id (string) and float64 columns, NaN as null."""
    arrays = {"id": pa.array(examples["id"].to_list(), pa.string())}
    for column in examples.columns.drop("id"):
        arrays[column] = pa.array(examples[column].to_numpy(), pa.float64(), from_pandas=True)
    return pa.table(arrays)
