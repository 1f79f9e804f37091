"""Stage `transform`: a checkpoint changed without training rows, its zeros kept.

Parents: weights (a plain folder); for strategies that refit, `dense` (the weights before pruning)
and `calibration` too. Out: a plain folder or one in parts, and `transform.json`: what was done.
"""

from __future__ import annotations

import importlib
import logging
import time
from pathlib import Path

from prunegrid import checkpoint, file_io
from prunegrid.extent import Extent
from prunegrid.imports import importing
from prunegrid.kept import keep_masks, require_kept

log = logging.getLogger(__name__)


class Context:
    """What a strategy works with: the attested parent, its masks, the other parents.

    Attributes:
        checkpoint: the parent, on the device.
        masks: what the strategy is to keep, True = kept; {} for a dense parent.
        extent: what counts as prunable.
        parents: {role: folder}.
        out: the folder to write into.
        facts: what is to be recorded.
        story: by linear, for `transform.json`.
        job: gives the device and how memory is used.
    """

    def __init__(self, settings: dict, parents: dict[str, Path], out: Path, job) -> None:
        self.settings, self.parents, self.out, self.job = settings, parents, out, job
        self.device, self.where = job.device, job.where
        self.folder = Path(parents["weights"])
        checkpoint.require_plain(self.folder, self.where)
        self.checkpoint = checkpoint.load(self.folder, self.device)
        self.extent = Extent.of(self.checkpoint.record)
        pattern = self.checkpoint.record["pattern"]
        self.masks = keep_masks(self.checkpoint.model, pattern, self.extent)
        self.facts: dict = {}
        self.story: dict = {}


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"weights": WEIGHTS RECORD, "transform": facts} of the weights written."""
    began = time.perf_counter()
    context = Context(settings, parents, out, job)
    name = f"prunegrid.finetuning.{settings['strategy']}"
    with importing(name):
        strategy = importlib.import_module(name)
    saved = strategy.transform(context, settings)
    facts = context.facts | require_kept(context.masks, saved, settings, job.where)
    story = {"settings": settings, "linears": context.story, **facts}
    file_io.write_json(out / "transform.json", story)
    seconds = time.perf_counter() - began
    log.info("%s: %s, %.1f s", job.where, saved.record["precision"], seconds)
    return {"weights": saved.record, "transform": facts | {"seconds": round(seconds, 3)}}
