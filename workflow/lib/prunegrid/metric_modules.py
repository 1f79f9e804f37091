"""Metrics in the form of `evaluate` modules: found, loaded by their path, and run.

A metric file declares, beside its `evaluate.Metric` class, literal constants: `SETTINGS` (its
settings and their defaults), `COLUMNS` (its scores, each with `higher_is_better`), `NEEDS_MODEL`,
and optionally `PACKAGES` (distributions whose versions are recorded) and `READS` ("document", the
prompt's "template": columns that stand beside the predictions where it says so). A module without
`COLUMNS` (any of the hub's) is taken to give numbers of the whole corpus, unless the setting
`columns` says which of its results are scores: `columns: {f1: {higher_is_better: true}}`.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.metadata
import inspect
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd

from prunegrid import modules
from prunegrid.errors import PrunegridError, nearest
from prunegrid.imports import importing

log = logging.getLogger(__name__)

HUB = "hf:"
_FOLDER = Path(__file__).resolve().parent / "metrics"
# Keys of a metric's settings that are about the module and do not reach its `compute`.
_ABOUT = {"module", "path", "revision", "columns"}
_TEXTS = {"predictions": "prediction", "references": "reference"}
# Lists that a metric returns beside its scores are kept in the record up to this length.
_LONGEST_DETAIL = 16


class Metric(NamedTuple):
    """A loaded metric: its `evaluate` object, the Python module it came from, its settings."""

    name: str
    module: str
    stem: str
    evaluator: Any
    code: ModuleType
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
        for feature in self.evaluator._feature_names():
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
            return self.evaluator.compute(**inputs, **self.settings, **extra)
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
        return modules.column_name(self.name, self.stem, key, hasattr(self.code, "COLUMNS"))

    def facts(self) -> dict[str, Any]:
        """Return the module, the SHA-256 of the code that ran, and the versions under it."""
        packages = ("evaluate", *getattr(self.code, "PACKAGES", ()))
        return {
            "module": self.module if self.module.startswith(HUB) else self.stem,
            "code_sha256": hashlib.sha256(Path(self.code.__file__).read_bytes()).hexdigest(),
            "settings": self.settings,
            "versions": {name: importlib.metadata.version(name) for name in packages},
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
    if module.startswith(HUB):
        stem = module.removeprefix(HUB).split("/")[-1]
        evaluator = _load_hub(module, settings.get("revision"), where)
    else:
        path = _find(settings.get("path", module), where)
        stem, evaluator = path.stem, _load_file(path, where)
    code = inspect.getmodule(type(evaluator))
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
    return Metric(name, module, stem, evaluator, code, given, declared)


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


def _load_file(path: Path, where: str) -> Any:
    evaluate = _import_evaluate()
    try:
        return evaluate.load(str(path), **_load_options())
    except NotImplementedError as error:
        # `evaluate` takes the first metric class that it meets in the file, imported ones too.
        raise PrunegridError(
            "its metric class has no _info, or the file imports `Metric` itself by name",
            where=str(path),
            remedy="write `import evaluate` and `class Mine(evaluate.Metric)`, with _info in it",
        ) from error
    except (ImportError, SyntaxError, TypeError, ValueError, NameError) as error:
        raise PrunegridError(
            f"the metric cannot be loaded ({type(error).__name__}: {error})",
            where=where,
            expected=f"an `evaluate` module in {path}",
        ) from error


def _load_hub(module: str, revision: str | None, where: str) -> Any:
    evaluate = _import_evaluate()
    from datasets import DownloadConfig

    name = module.removeprefix(HUB)
    if Path(name).exists():
        # `evaluate` would load the folder without a word.
        raise PrunegridError(
            f"a folder '{name}' lies in the way of the hub's metric",
            where=where,
            remedy="rename the folder, or name the metric by its path",
        )
    kind = None if "/" in name else "metric"
    # Without ETags what was downloaded once is found again offline.
    options = {"download_config": DownloadConfig(use_etag=False), "revision": revision}
    try:
        return evaluate.load(name, module_type=kind, **options, **_load_options())
    except (OSError, ImportError, TypeError) as error:
        offline = evaluate.config.HF_EVALUATE_OFFLINE
        cure = "unset HF_HUB_OFFLINE and HF_EVALUATE_OFFLINE"
        raise PrunegridError(
            f"the hub's metric '{name}' cannot be had ({error})",
            where=where,
            remedy=(cure if offline else "check the name and the network")
            + ", or use a metric of the library or of your own",
        ) from error


def _load_options() -> dict[str, Any]:
    # The seed is fixed: `evaluate` would take one from NumPy's global state, other in each run.
    return {"keep_in_memory": True, "cache_dir": str(_scratch() / "data"), "seed": 0}


@functools.cache
def _import_evaluate() -> ModuleType:
    """Return the `evaluate` package, imported without transformers and torch.

    Its task evaluators, which are not used here, import both where they are installed, at four
    times the cost of the rest; without them they are left out. The modules that it copies go to
    a folder of this process: in a cache that jobs share it would trust half of a copy, and one of
    an older text (its hash of a file leaves out all that follows a `#`, inside strings too).
    """
    blocked = "transformers" not in sys.modules
    if blocked:
        sys.modules["transformers"] = None  # type: ignore[assignment]
    try:
        with importing("evaluate"):
            import evaluate
            import evaluate.config
    finally:
        if blocked:
            del sys.modules["transformers"]
    evaluate.config.HF_MODULES_CACHE = _scratch() / "modules"
    evaluate.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        evaluate.config.HF_EVALUATE_OFFLINE = True
    return evaluate


@functools.cache
def _scratch() -> Path:
    """Return a temporary folder that is removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="metrics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


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
