"""Training at one learning rate, or at several of which the development rows choose one."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from prunegrid.finetuning.training import distributed
from prunegrid.finetuning.training.checkpoints import Store
from prunegrid.finetuning.training.divergence import Diverged
from prunegrid.finetuning.training.loop import Loop, Task, restore, snapshot
from prunegrid.finetuning.training.run_facts import TrainFacts
from prunegrid.finetuning.training.sharded_task import fit_together
from prunegrid.finetuning.training.token_batches import Example, plan
from prunegrid.models.forward import inner

log = logging.getLogger(__name__)


def train(
    model: nn.Module,
    examples: list[Example],
    settings: dict,
    *,
    pad: int,
    seed: int,
    device: str,
    where: str,
    dev: Sequence[Example] = (),
    masks: dict[str, Tensor] | None = None,
    store: Store | None = None,
) -> TrainFacts:
    """Train the parameters that require a gradient, in place.

    With `settings["learning_rates"]` each is tried from the same weights, on the same rows in the
    same order, for the same number of steps; the weights of the one with the lowest development
    loss are those that stay. One that diverges is out; it does not fail the step.

    Args:
        model: on `device`; its trainable weights in float32.
        settings: of the finetune step.
        seed: of the order of rows and of dropout.
        dev: rows whose loss chooses weights and rates; none: the last weights stay.
        masks: bool [d_out, d_in] by linear, True = kept; zero again after every optimizer step.
        store: keeps the state of a run under way for a job that is run again.

    Returns:
        the facts of the run whose weights stay; `tries` has those of all.

    Raises:
        PrunegridError: the loss or the gradient is not finite, or the loss diverges.
    """
    task = Task(
        model,
        examples,
        list(dev),
        settings,
        pad,
        seed,
        device,
        where,
        masks or {},
        store,
    )
    return fit_together(task, _fit) if distributed.current().size > 1 else _fit(task)


def _fit(task: Task) -> TrainFacts:
    """Return the facts of a task's training, at one learning rate or the best of several."""
    settings, where = task.settings, task.where
    steps = plan(task.examples, settings, task.seed)
    if settings["warmup_steps"] >= steps:
        log.warning(
            "%s: %d warm-up steps of %d: the learning rate never reaches learning_rate",
            where,
            settings["warmup_steps"],
            steps,
        )
    if settings["gradient_checkpointing"]:
        checkpoint_activations(inner(task.model))
    if task.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(task.device)
    if settings["learning_rates"]:
        facts = _search(task)
    else:
        facts = Loop(task, settings["learning_rate"], "training").run()
    if facts.best and facts.best[1] >= facts.dev_losses[0][1]:
        log.warning(
            "%s: training did not lower the development loss: %.4f before it, %.4f at best",
            where,
            facts.dev_losses[0][1],
            facts.best[1],
        )
    return facts


def _finite(curves: dict) -> dict:
    """Return the curves of a run that diverged: JSON has no NaN, and no weights are kept."""
    losses = [loss if math.isfinite(loss) else None for loss in curves["losses"]]
    return curves | {"losses": losses, "kept_step": None, "dev_loss": None}


def checkpoint_activations(model: nn.Module) -> None:
    """Have a transformers model compute its activations again in backward."""
    # transformers 5.17 has the second name alone; 6 will not have it.
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def _search(task: Task) -> TrainFacts:
    """Return the facts of the best of several learning rates, whose weights are then set."""
    weights = task.weights()
    start = snapshot(weights)
    kept, kept_weights, tries = None, start, []
    rates = task.settings["learning_rates"]
    for number, rate in enumerate(rates, start=1):
        restore(weights, start)
        loop = Loop(task, rate, f"learning-rate-{number}-of-{len(rates)}")
        try:
            facts = loop.run()
        except Diverged as error:
            log.warning("learning rate %g is out: %s", rate, error.what)
            loop.finish(diverged=error.what)
            tries.append(_finite(loop.facts.curves()) | {"diverged": error.what})
            continue
        loop.finish()
        tries.append(facts.curves() | {"diverged": None})
        if kept is None or facts.best[1] < kept.best[1]:
            kept, kept_weights = facts, snapshot(weights)
    if kept is None:
        raise Diverged(
            f"training diverged at every one of the learning rates {rates}",
            where=task.where,
            remedy="add lower ones to finetune.learning_rates",
        )
    restore(weights, kept_weights)
    log.info("%s: learning rate %g is kept", task.where, kept.learning_rate)
    kept.tries = tries
    return kept
