"""Stage `controls`: texts without a model (lead, oracles, gaming texts), written and scored.

Parents: data; `<metric name>.model` for each metric that needs a model. Out: a folder a control,
`<place>-<method>`, with `predictions.parquet` and `scores.parquet`, as models have them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from prunegrid.artifacts.parts import part_folder
from prunegrid.common.errors import PrunegridError
from prunegrid.common.plugins import baseline_facts
from prunegrid.data.rows import read_rows
from prunegrid.evaluation import predictions_file
from prunegrid.stages import scores

PACKAGES = ("pandas", "pyarrow")
METRICS = True
START_SECONDS = 2  # of each control
MEMORY_MB = 700
BYTES_A_PARAMETER = 6


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"parts": {folder: record of its scores}}; write a folder a control.

    Args:
        settings: {"documents": {split, rows (the first so many; None: all)}, "controls": of each
            control, method (a file of `evaluation/baselines`), settings (None is the default) and
            the prompt where it reads that; "metrics", "split", "template": see `stages.scores`}.
        parents: {"data": folder with <split>.parquet}, and the models of metrics by role.

    Raises:
        PrunegridError: the split or a method is unknown, or a setting makes no sense.
    """
    split, limit = settings["documents"]["split"], settings["documents"]["rows"]
    rows = pd.DataFrame(read_rows(parents["data"], split, limit, job.where))
    folders = []
    # All texts first: a fault of a control is found before a metric's model is loaded.
    for place, control in enumerate(settings["controls"]):
        columns = _columns(control, rows, job)
        folders.append(out / part_folder(place, control["method"]))
        folders[-1].mkdir()
        predictions_file.write(columns, folders[-1])
    parts = {}
    for folder in folders:
        read = {**parents, "predictions": folder}
        parts[folder.name] = scores.run(settings, read, folder, job)
    return {"parts": parts}


def _columns(control: Mapping[str, Any], rows: pd.DataFrame, job) -> dict[str, list]:
    """Return the columns of `predictions_file` of one control."""
    where = f"baseline {control['method']}"
    facts = baseline_facts(control["method"])
    given = {name: value for name, value in control["settings"].items() if value is not None}
    own = {**facts["SETTINGS"], **given, "prompt": control.get("prompt")}
    method = importlib.import_module(f"prunegrid.evaluation.baselines.{control['method']}")
    try:
        texts = method.predict(rows, own, job.seed(where) if facts["DRAWS"] else None)
    except ValueError as error:
        raise PrunegridError(str(error), where=where) from error
    return {
        "id": rows["id"].to_list(),
        "reference": rows["summary"].to_list(),
        "prediction": texts,
        # Nothing was tokenized and nothing generated: no lengths, no limit, no cut.
        **{column: [None] * len(rows) for column in predictions_file.GENERATED},
    }
