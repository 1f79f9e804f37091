"""Stage `finetune`: trains a checkpoint on summaries or on a text, keeping its zeros.

Parents: weights (a plain folder), data. Out: a plain folder or one in parts (packed weights, an
adapter beside its base), and `finetune.json`: losses, learning rates and development losses by
step, the learning rates that were tried, tokens, shares cut, settings.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path

from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.common.gc_pause import importing
from prunegrid.common.model_family import STRATEGIES, unfit_learning
from prunegrid.finetuning import processes
from prunegrid.finetuning.context import Context
from prunegrid.finetuning.training import distributed, run_facts
from prunegrid.models import loading
from prunegrid.models.zero_masks import require_kept

PACKAGES = ("any weights", "pandas", "pyarrow", "accelerate")
COMPUTES = True

log = logging.getLogger(__name__)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {"weights": WEIGHTS RECORD, "train": facts} of the weights written."""
    task = loading.require_fit(parents["weights"], STRATEGIES, settings["strategy"], job.where)
    fault = unfit_learning(
        settings["strategy"],
        task,
        processes=settings["processes"],
        loss_on=settings["loss_on"],
        windows="window" in settings,
    )
    if fault:
        raise PrunegridError(fault, where=job.where)
    if settings["processes"] > distributed.current().size:
        return processes.launch("finetune", settings, parents, out, job)
    context = Context(settings, parents, out, job)
    name = f"prunegrid.finetuning.strategies.{settings['strategy']}"
    with importing(name):
        strategy = importlib.import_module(name)
    facts, saved = strategy.tune(context, settings)
    record = saved.record
    context.facts |= require_kept(context.pruned, saved, settings, job.where)
    story = context.facts | facts.curves() | {"tries": facts.tries, "settings": settings}
    file_io.write_json(out / "finetune.json", story)
    log.info("%s: loss %.4f → %.4f", job.where, facts.losses[0], facts.losses[-1])
    return {"weights": record, "train": _summary(story, facts)}


def _summary(story: dict, facts: run_facts.TrainFacts) -> dict:
    """Return what the manifest tells of training: the story without its curves, and the times."""
    skipped = ("losses", "rates", "dev_losses", "tries", "settings")
    return {name: value for name, value in story.items() if name not in skipped} | {
        "first_loss": facts.losses[0],
        "last_loss": facts.losses[-1],
        "first_dev_loss": facts.dev_losses[0][1] if facts.dev_losses else None,
        "runs": len(facts.tries) or 1,
        "train_seconds": facts.seconds,
        "dev_seconds": facts.dev_seconds,
        "tokens_per_second": facts.tokens / facts.seconds if facts.seconds else None,
        "peak_memory_bytes": facts.peak_memory_bytes,
        "resumed_at": facts.resumed_at,
    }
