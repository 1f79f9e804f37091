"""Metrics in the form of `evaluate` modules: a user's own file, or one of the hub's.

`evaluate` imports transformers and torch (ten times what the rest of it costs), so it is imported
only here.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.common.gc_pause import importing

HUB = "hf:"


def load_file(path: Path, where: str) -> Any:
    """Return the metric object of a file; PrunegridError where the file is no metric."""
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
            expected=f"a function `compute`, or an `evaluate` module, in {path}",
        ) from error


def load_hub(module: str, revision: str | None, where: str) -> Any:
    """Return the metric object of `hf:<name>`, fetched once; PrunegridError where that fails."""
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
        cure = "check the name and the network"
        if evaluate.config.HF_EVALUATE_OFFLINE:
            cure = "unset HF_HUB_OFFLINE and HF_EVALUATE_OFFLINE"
        raise PrunegridError(
            f"the hub's metric '{name}' cannot be loaded ({error})",
            where=where,
            remedy=f"{cure}, or use a metric of the library or of your own",
        ) from error


def _load_options() -> dict[str, Any]:
    # Without a seed `evaluate` takes one from NumPy's global state, another in each run.
    return {"keep_in_memory": True, "cache_dir": str(_scratch() / "data"), "seed": 0}


@functools.cache
def _import_evaluate() -> ModuleType:
    """Return the `evaluate` package, set up for this process.

    It copies modules to a folder of this process: in a shared cache it would trust half of a copy,
    and one of an older text (its hash of a file skips what follows a `#`, even inside strings).
    """
    with importing("evaluate"):
        import evaluate
        import evaluate.config
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
