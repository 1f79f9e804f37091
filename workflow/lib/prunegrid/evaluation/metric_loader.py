"""Metrics, one a file: found, loaded by their path, and run.

A metric file declares literal constants: `SETTINGS` (its settings and their defaults), `COLUMNS`
(its scores, each with `higher_is_better`), `NEEDS_MODEL`, and optionally `PACKAGES` (distributions
whose versions are recorded) and `READS` ("document", the prompt's "template": columns that stand
beside the predictions where it says so). Its function `compute(predictions, references, …)` returns
{column: a value an example, or one of the corpus}. Its positional parameters are columns of the
predictions; its settings, and `model_path` and `device` of a metric with a model, are keyword-only.

A file without `compute`, and any metric of the hub, is an `evaluate` module. One without `COLUMNS`
(any of the hub's) is taken to give numbers of the whole corpus, unless the setting `columns` says
which of its results are scores: `columns: {f1: {higher_is_better: true}}`.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import json
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.gc_pause import importing
from prunegrid.evaluation import evaluate_metrics
from prunegrid.evaluation.evaluate_metrics import HUB

log = logging.getLogger(__name__)

_FOLDER = Path(__file__).resolve().parent / "metrics"
# Keys of a metric's settings that are about the module and do not reach its `compute`.
_ABOUT = {"module", "path", "revision", "columns"}
_TEXTS = {"predictions": "prediction", "references": "reference"}
# Lists that a metric returns beside its scores are kept in the record up to this length.
_LONGEST_DETAIL = 16


class Metric(NamedTuple):
    """A loaded metric.

    Attributes:
        reads: the names of what it is given, in the terms of `evaluate`.
        function: its `compute`.
        code: the Python module that it came from.
        packages: distributions whose versions are recorded.
        declared: its `COLUMNS`; None without.
    """

    name: str
    module: str
    stem: str
    reads: list[str]
    function: Callable[..., Any]
    code: ModuleType
    packages: tuple[str, ...]
    settings: dict[str, Any]
    declared: dict[str, dict[str, Any]] | None

    @property
    def where(self) -> str:
        """Label for errors."""
        return f"metric {self.name} ({self.module})"

    def compute(
        self, predictions: pd.DataFrame, model_path: Path | None, device: str
    ) -> dict[str, Any]:
        """Return what the metric's `compute` returns for the predictions.

        Raises:
            PrunegridError: a column or a model is missing, or the metric refuses its input.
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
        if needs_model and model_path is None:
            raise PrunegridError(
                "the metric needs a model", where=self.where, remedy="name one under `model`"
            )
        if model_path is not None and not needs_model:
            raise PrunegridError("the metric takes no model", where=self.where)
        extra = {"model_path": str(model_path), "device": device} if needs_model else {}
        try:
            return self.function(**inputs, **self.settings, **extra)
        except (ValueError, TypeError, ImportError, OSError) as error:
            log.info("%s failed", self.where, exc_info=True)
            raise PrunegridError(str(error), where=self.where) from error

    def columns(self, results: Any, rows: int) -> tuple[list[tuple[str, Any, Any]], dict]:
        """Return the scores in `results`, as (column, values or number, higher is better), and
        the other facts in it.

        Raises:
            PrunegridError: a declared column is missing or has not one value an example.
        """
        if not isinstance(results, dict):
            raise PrunegridError(f"it returned a {type(results).__name__}", where=self.where)
        columns = []
        if self.declared is None:
            numbers = {key: value for key, value in results.items() if is_number(value)}
            columns = [(self._column(key), float(value), None) for key, value in numbers.items()]
            rest = results.keys() - numbers.keys()
        else:
            for key, about in self.declared.items():
                values = results.get(key)
                if not is_number(values) and (
                    not hasattr(values, "__len__") or len(values) != rows
                ):
                    raise PrunegridError(
                        f"it did not return {rows} values of {key}", where=self.where
                    )
                columns.append((self._column(key), values, about.get("higher_is_better")))
            rest = results.keys() - self.declared.keys()
        return columns, {key: _detail(results[key]) for key in sorted(rest)}

    def _column(self, key: str) -> str:
        return plugins.column_name(self.name, self.stem, key, hasattr(self.code, "COLUMNS"))

    def facts(self) -> dict[str, Any]:
        """Return the module, the SHA-256 of the code that ran, and the versions under it."""
        return {
            "module": self.module if self.module.startswith(HUB) else self.stem,
            "code_sha256": hashlib.sha256(Path(self.code.__file__).read_bytes()).hexdigest(),
            "settings": self.settings,
            "versions": {name: importlib.metadata.version(name) for name in self.packages},
        }


def load(name: str, settings: Mapping[str, Any]) -> Metric:
    """Return a metric, loaded, with its settings checked and filled in.

    Args:
        name: the metric's name in the config.
        settings: `module`, which is a file's name in `prunegrid/metrics` (`rouge`), a path, or
            `hf:<name>` (the name where it is left out); `path`, the file where it is known;
            `revision` (of the hub's); `columns`; all else goes to the metric.

    Raises:
        PrunegridError: there is no such metric, it cannot be imported, or a setting is unknown.
    """
    module = str(settings.get("module", name))
    where = f"metric {name} ({module})"
    stem, code, reads, function = _load(module, settings, where)
    packages = () if function is getattr(code, "compute", None) else ("evaluate",)
    packages += tuple(getattr(code, "PACKAGES", ()))
    given = {key: value for key, value in settings.items() if key not in _ABOUT}
    defaults = getattr(code, "SETTINGS", None)
    if defaults is not None:
        unknown = sorted(given.keys() - defaults.keys())
        if unknown:
            raise PrunegridError(
                f"unknown setting '{unknown[0]}'",
                where=where,
                remedy=nearest(unknown[0], defaults),
            )
        given = {**defaults, **given}
    declared = getattr(code, "COLUMNS", None)
    if declared is not None and "columns" in settings:
        raise PrunegridError("the metric declares its own columns", where=where)
    declared = settings.get("columns") if declared is None else declared
    return Metric(name, module, stem, reads, function, code, packages, given, declared)


def _load(
    module: str, settings: Mapping[str, Any], where: str
) -> tuple[str, ModuleType, list[str], Callable[..., Any]]:
    """Return (its file's name, its Python module, what it is given, its `compute`)."""
    if module.startswith(HUB):
        stem = module.removeprefix(HUB).split("/")[-1]
        found = evaluate_metrics.load_hub(module, settings.get("revision"), where)
    else:
        path = _find(settings.get("path", module), where)
        if plugins.is_plain_metric(path):
            return path.stem, *_load_plain(path, where)
        stem, found = path.stem, evaluate_metrics.load_file(path, where)
    return stem, inspect.getmodule(type(found)), found._feature_names(), found.compute


def _find(module: str, where: str) -> Path:
    """Return the file of a metric of the library by its name, of any other by its path."""
    if "/" in module or module.endswith(".py"):
        path = Path(module).expanduser().resolve()
        path = path / f"{path.name}.py" if path.is_dir() else path
        if not path.is_file():
            raise PrunegridError(f"there is no metric file {path}", where=where)
        return path
    known = {path.stem: path for path in _FOLDER.glob("[!_]*.py")}
    if module not in known:
        raise PrunegridError(
            f"unknown metric '{module}'",
            where=where,
            remedy=f"{nearest(module, known)}; a metric of the hub is written hf:<name>, "
            "one of your own as the path of its file",
        )
    return known[module]


class _FromSource(importlib.machinery.SourceFileLoader):
    """Loads a file from its source: the cache of compiled code knows an edit by its second."""

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Say that nothing is known of the source, so that no compiled code fits it."""
        raise OSError(path)


def _load_plain(path: Path, where: str) -> tuple[ModuleType, list[str], Callable[..., Any]]:
    """Return (module, what its `compute` is given, `compute`) of a metric file.

    Raises:
        PrunegridError: it cannot be imported.
    """
    name = f"prunegrid_metric_{path.stem}"
    loader = _FromSource(name, str(path))
    code = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = code
    try:
        with importing(f"{name}.packages"):
            loader.exec_module(code)
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
    """Whether a value is one number (also NumPy's), truth values apart."""
    return (
        not isinstance(value, bool)
        and not hasattr(value, "__len__")
        and hasattr(value, "__float__")
    )
