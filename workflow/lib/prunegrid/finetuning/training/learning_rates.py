"""Training at one learning rate, or at several of which the development loss chooses one."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from prunegrid.finetuning.training import distributed
from prunegrid.finetuning.training.checkpoints import Store
from prunegrid.finetuning.training.divergence import Diverged
from prunegrid.finetuning.training.loop import Loop, Task
from prunegrid.finetuning.training.objectives import Masking
from prunegrid.finetuning.training.run_facts import TrainFacts
from prunegrid.finetuning.training.state import restore, snapshot
from prunegrid.finetuning.training.token_batches import Example, plan
from prunegrid.models.blocks import find_blocks
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
    masking: Masking | None = None,
    store: Store | None = None,
) -> TrainFacts:
    """Train the parameters that require a gradient, in place.

    Each of `settings["learning_rates"]` is tried from the same weights, on the same rows in the
    same order, for the same number of steps. The model gets the weights of the one with the lowest
    development loss. A rate that diverges is left out and does not fail the step.

    Args:
        model: on `device`; its trainable weights in float32.
        settings: of the finetune step.
        seed: of the order of rows and of dropout.
        dev: rows whose loss chooses weights and rates; none: the last weights stay.
        masks: bool [d_out, d_in] by linear, True = kept; zero again after every optimizer step.
        masking: hides tokens of the rows to learn (see `prunegrid.finetuning.training.objectives`).
        store: keeps the state of a run under way for a job that is run again.

    Returns:
        the facts of the run whose weights the model gets; `tries` has those of all.

    Raises:
        PrunegridError: the loss or the gradient is not finite, or the loss diverges.
        SystemExit: in every process but the leading one, which alone goes on.
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
        masking,
        store,
    )
    return _fit_sharded(task) if distributed.current().size > 1 else _fit(task)


def _fit_sharded(task: Task) -> TrainFacts:
    """Train a copy of a task's model, shared out over the processes; give the model its weights."""
    world = distributed.current()
    # The plain model waits in main memory, so that the device holds shares alone.
    task.model.to("cpu")
    shared = copy.deepcopy(task.model)
    distributed.shard(shared, find_blocks(inner(shared)).modules, task.device)
    facts = _fit(replace(task, model=shared, world=world))
    trained = dict(shared.named_parameters())
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(distributed.whole(trained[name].detach()))
    if not world.leads:
        raise SystemExit(0)
    task.model.to(task.device)
    return facts


def _fit(task: Task) -> TrainFacts:
    """Train a task's model, at one learning rate or the best of several; return the facts."""
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
    """Return the curves of a diverged run without NaN, which JSON lacks, and without weights."""
    losses = [loss if math.isfinite(loss) else None for loss in curves["losses"]]
    return curves | {"losses": losses, "kept_step": None, "dev_loss": None}


def checkpoint_activations(model: nn.Module) -> None:
    """Make a transformers model compute its activations again in the backward pass."""
    # transformers 5.17 has only the second name; 6 will have only the first.
    enable = getattr(model, "activation_checkpointing_enable", None)
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})


def _search(task: Task) -> TrainFacts:
    """Give the model the weights of the best of several learning rates; return its facts."""
    weights = task.weights()
    start = snapshot(weights)
    best, best_weights, tries = None, start, []
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
        if best is None or facts.best[1] < best.best[1]:
            best, best_weights = facts, snapshot(weights)
    if best is None:
        raise Diverged(
            f"training diverged at every one of the learning rates {rates}",
            where=task.where,
            remedy="add lower ones to finetune.learning_rates",
        )
    restore(weights, best_weights)
    log.info("%s: learning rate %g is the best", task.where, best.learning_rate)
    best.tries = tries
    return best
