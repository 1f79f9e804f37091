"""Stage `transform`: a checkpoint changed without training rows, its zeros kept.

Parents: weights (a plain folder); for strategies that refit, `dense` (the weights before pruning)
and `calibration` too. Out: a plain folder or one in parts, and `transform.json`: the settings and
facts of the change.
"""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path

from prunegrid.common import file_io
from prunegrid.common.gc_pause import importing
from prunegrid.common.model_family import STRATEGIES
from prunegrid.finetuning.transform_context import Context
from prunegrid.models import loading
from prunegrid.models.zero_masks import require_kept

PACKAGES = ("plain weights", "bitsandbytes", "accelerate")
COMPUTES = True
GROUP = "evaluate"

log = logging.getLogger(__name__)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"weights": WEIGHTS RECORD, "transform": facts} of the weights written."""
    began = time.perf_counter()
    loading.require_fit(parents["weights"], STRATEGIES, settings["strategy"], job.where)
    context = Context(settings, parents, out, job)
    name = f"prunegrid.finetuning.strategies.{settings['strategy']}"
    with importing(name):
        strategy = importlib.import_module(name)
    saved = strategy.transform(context, settings)
    facts = context.facts | require_kept(context.masks, saved, settings, job.where)
    parts = {"parts": context.parts} if context.parts else {}
    story = {"settings": settings, "linears": context.story, **parts, **facts}
    file_io.write_json(out / "transform.json", story)
    seconds = time.perf_counter() - began
    log.info("%s: %s, %.1f s", job.where, saved.record["precision"], seconds)
    return {"weights": saved.record, "transform": facts | {"seconds": round(seconds, 3)}}
