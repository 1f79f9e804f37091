"""A task trained by several processes: a copy of its model is shared out, then put together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import torch

from prunegrid.finetuning.training import distributed
from prunegrid.finetuning.training.loop import Task
from prunegrid.finetuning.training.run_facts import TrainFacts
from prunegrid.models.blocks import find_blocks
from prunegrid.models.forward import inner


def fit_together(task: Task, fit: Callable[[Task], TrainFacts]) -> TrainFacts:
    """Return the facts of `fit` over the shares of a task's model, which then has its weights.

    Raises:
        SystemExit: in every process but the leading one: it has nothing further to do.
    """
    ours = distributed.current()
    # The plain model waits in main memory: on the device are the shares alone.
    task.model.to("cpu")
    shared = copy.deepcopy(task.model)
    distributed.shard(shared, find_blocks(inner(shared)).modules, task.device)
    facts = fit(replace(task, model=shared, world=ours))
    trained = dict(shared.named_parameters())
    with torch.no_grad():
        for name, parameter in task.model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(distributed.whole(trained[name].detach()))
    if not ours.leads:
        raise SystemExit(0)
    task.model.to(task.device)
    return facts
