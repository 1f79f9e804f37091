"""Metrics, one a file: found, loaded by their path, and run.

A metric file declares literal constants: `COLUMNS` (its scores, each with `higher_is_better`) and,
where it has any, `SETTINGS` (its settings and their defaults), `NEEDS_MODEL = True`, `PACKAGES`
(distributions whose versions are recorded) and `READS` ("document", the prompt's "template":
columns that stand beside the predictions where it says so). Its function
`compute(predictions, references, …)` returns {column: a value an example, or one of the corpus}.
Its positional parameters are columns of the predictions; its settings, and `model_path` and
`device` of a metric with a model, are keyword-only.

A file without `compute`, and any metric of the hub, is an `evaluate` module. One without `COLUMNS`
(any of the hub's) is taken to give numbers of the whole corpus, unless the setting `columns` says
which of its results are scores: `columns: {f1: {higher_is_better: true}}`.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import file_sha256
from prunegrid.common.gc_pause import importing
from prunegrid.evaluation import evaluate_metrics
from prunegrid.evaluation.evaluate_metrics import HUB

log = logging.getLogger(__name__)

# Keys of a metric's settings that are about the module and do not reach its `compute`.
_ABOUT = {"module", "path", "revision", "columns"}
_TEXTS = {"predictions": "prediction", "references": "reference"}
# Lists that a metric returns beside its scores are kept in the record up to this length.
_LONGEST_DETAIL = 16


class Metric(NamedTuple):
    """A loaded metric.

    Attributes:
        name: in the config.
        module: as the config names it: a file's name, a path, or `hf:<name>`.
        stem: of its file.
        code: the Python module of the file.
        reads: the names of its inputs, in the terms of `evaluate`.
        function: its `compute`.
        declared: its `COLUMNS`; None without.
    """

    name: str
    module: str
    stem: str
    code: ModuleType
    reads: list[str]
    function: Callable[..., Any]
    settings: dict[str, Any]
    declared: dict[str, dict[str, Any]] | None

    @property
    def where(self) -> str:
        """Return the label for errors."""
        return f"metric {self.name} ({self.module})"

    def compute(
        self, predictions: pd.DataFrame, model_path: Path | None, device: str
    ) -> dict[str, Any]:
        """Return the result of the metric's `compute` for the predictions.

        Raises:
            PrunegridError: a column is missing, or the metric refuses its input.
        """
        inputs = {}
        for feature in self.reads:
            column = _TEXTS.get(feature, feature)
            if column not in predictions:
                raise PrunegridError(
                    f"the metric wants '{feature}'",
                    where=self.where,
                    expected=f"one of the columns of the predictions: {list(predictions)}",
                    remedy='write READS = ("document",) (or "template") in its file to have that',
                )
            inputs[feature] = predictions[column].to_list()
        needs_model = getattr(self.code, "NEEDS_MODEL", False)
        if model_path is not None and not needs_model:
            raise PrunegridError("the metric takes no model", where=self.where)
        extra = {"model_path": str(model_path), "device": device} if needs_model else {}
        try:
            return self.function(**inputs, **self.settings, **extra)
        except (ValueError, TypeError, ImportError, OSError) as error:
            log.info("%s failed", self.where, exc_info=True)
            raise PrunegridError(str(error), where=self.where) from error

    def columns(self, results: Any, rows: int) -> tuple[list[tuple[str, Any, Any]], dict]:
        """Return [(column, values or number, higher is better)] of the results, and other facts.

        Raises:
            PrunegridError: a declared column is missing or has not one value an example.
        """
        if not isinstance(results, dict):
            raise PrunegridError(f"it returned a {type(results).__name__}", where=self.where)
        declared = self.declared
        if declared is None:
            declared = {key: {} for key, value in results.items() if is_number(value)}
        columns = []
        for key, about in declared.items():
            values = results.get(key)
            if not is_number(values) and not (hasattr(values, "__len__") and len(values) == rows):
                raise PrunegridError(f"it did not return {rows} values of {key}", where=self.where)
            own = hasattr(self.code, "COLUMNS")
            column = plugins.column_name(self.name, self.stem, key, own)
            columns.append((column, values, about.get("higher_is_better")))
        others = sorted(results.keys() - declared.keys())
        return columns, {key: _detail(results[key]) for key in others}

    def facts(self) -> dict[str, Any]:
        """Return the module, the SHA-256 of the code that ran, and the versions under it."""
        plain = self.function is getattr(self.code, "compute", None)
        packages = (*(() if plain else ("evaluate",)), *getattr(self.code, "PACKAGES", ()))
        return {
            "module": self.module if self.module.startswith(HUB) else self.stem,
            "code_sha256": file_sha256(Path(self.code.__file__)),
            "settings": self.settings,
            "versions": {name: importlib.metadata.version(name) for name in packages},
        }


def load(name: str, settings: Mapping[str, Any]) -> Metric:
    """Return a metric, loaded, with its settings filled in.

    Args:
        name: the metric's name in the config.
        settings: `module`, which is a file's name in `evaluation/metrics` (`rouge`), a path, or
            `hf:<name>` (`name` where it is left out); `path`, the file where it is known;
            `revision` (of the hub's); `columns`; all others are those of its `compute`.

    Raises:
        PrunegridError: there is no such metric, or it cannot be imported.
    """
    module = str(settings.get("module", name))
    where = f"metric {name} ({module})"
    if module.startswith(HUB):
        stem = module.removeprefix(HUB).split("/")[-1]
        loaded = _of_evaluate(evaluate_metrics.load_hub(module, settings.get("revision"), where))
    else:
        path = plugins.metric_file(str(settings.get("path", module)), Path())
        stem = path.stem
        if plugins.is_plain_metric(path):
            loaded = _load_plain(path, where)
        else:
            loaded = _of_evaluate(evaluate_metrics.load_file(path, where))
    code = loaded[0]
    own = {key: value for key, value in settings.items() if key not in _ABOUT}
    own = {**getattr(code, "SETTINGS", {}), **own}
    if hasattr(code, "COLUMNS") and "columns" in settings:
        raise PrunegridError("the metric declares its own columns", where=where)
    declared = getattr(code, "COLUMNS", settings.get("columns"))
    return Metric(name, module, stem, *loaded, own, declared)


def _of_evaluate(metric: Any) -> tuple[ModuleType, list[str], Callable[..., Any]]:
    """Return (module, names of its inputs, `compute`) of a metric object of `evaluate`."""
    return inspect.getmodule(type(metric)), metric._feature_names(), metric.compute


def _load_plain(path: Path, where: str) -> tuple[ModuleType, list[str], Callable[..., Any]]:
    """Return (module, names of its inputs, `compute`) of a metric file."""
    name = f"prunegrid_metric_{path.stem}"
    try:
        with importing(f"{name}.packages"):
            code = plugins.import_file(name, path)
    except (ImportError, SyntaxError, TypeError, ValueError, NameError) as error:
        raise PrunegridError(
            f"the metric cannot be loaded ({type(error).__name__}: {error})", where=where
        ) from error
    parameters = inspect.signature(code.compute).parameters.values()
    reads = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    return code, reads, code.compute


def _detail(value: Any) -> Any:
    """Return a fact as JSON; of a long list only its length."""
    if hasattr(value, "__len__") and not isinstance(value, str) and len(value) > _LONGEST_DETAIL:
        return f"{len(value)} values, not kept (`columns` would keep them as scores)"
    return json.loads(json.dumps(value, default=str))


def is_number(value: Any) -> bool:
    """Return whether a value is one number (also NumPy's), truth values apart."""
    return (
        not isinstance(value, bool)
        and not hasattr(value, "__len__")
        and hasattr(value, "__float__")
    )
