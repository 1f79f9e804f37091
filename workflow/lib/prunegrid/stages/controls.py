"""Stage `controls`: texts without a model (lead, oracles, gaming texts), written and scored.

Parents: data; `<metric name>.model` for each metric that needs a model. Out: a folder a control,
`<place>-<method>`, with `predictions.parquet` and `scores.parquet`, as models have them.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from prunegrid.artifacts.parts import part_folder
from prunegrid.common.errors import PrunegridError
from prunegrid.data.rows import read_rows
from prunegrid.evaluation import predictions_file
from prunegrid.stages import scores

DOES = "controls"
RULE = "controls"
PACKAGES = ("pandas", "pyarrow")
METRICS = True
START_SECONDS = 15
MEMORY_MB = 700
BYTES_A_PARAMETER = 6


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"parts": {folder: record of its scores}}; write a folder a control.

    Args:
        settings: {"documents": {split, rows (the first so many; None: all)}, "controls": of each
            control, method (a file of `evaluation/baselines`), settings (None is the default) and
            the prompt where it reads that; "metrics", "split", "template": see `stages.scores`}.
        parents: {"data": folder with <split>.parquet}, and the models of metrics by role.
        out: folder of the new artifact.
        job: gives the device, and the seed where the settings hold one.

    Raises:
        PrunegridError: the split, a method or a setting is unknown; see `scoring.score`.
    """
    split, limit = settings["documents"]["split"], settings["documents"]["rows"]
    rows = pd.DataFrame(read_rows(parents["data"], split, limit, job.where))
    folders = []
    # All texts first: what is wrong with a control is found before a metric's model is loaded.
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
    method = _load(control["method"])
    own = {key: value for key, value in control["settings"].items() if value is not None}
    unknown = sorted(own.keys() - method.SETTINGS.keys())
    if unknown:
        raise PrunegridError(
            f"unknown setting '{unknown[0]}'",
            where=where,
            expected=f"one of {sorted(method.SETTINGS)}",
        )
    read = {"prompt": control["prompt"]} if "prompt" in control else {}
    seed = job.seed(where) if getattr(method, "DRAWS", False) else None
    return {
        "id": rows["id"].to_list(),
        "reference": rows["summary"].to_list(),
        "prediction": method.predict(rows, {**method.SETTINGS, **own, **read}, seed),
        # Nothing was tokenized and nothing generated: no lengths, no limit, no cut.
        **{column: [None] * len(rows) for column in predictions_file.GENERATED},
    }


def _load(name: str) -> ModuleType:
    module = f"prunegrid.evaluation.baselines.{name}"
    if not name.isidentifier() or importlib.util.find_spec(module) is None:
        raise PrunegridError(
            f"there is no baseline '{name}'",
            expected="the name of a file in evaluation/baselines",
        )
    return importlib.import_module(module)
