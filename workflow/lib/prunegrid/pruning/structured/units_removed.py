"""Which units go: scored by a criterion, the lowest of each layer (of blocks: of the model)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunegrid.models.blocks import oriented
from prunegrid.pruning.criteria import generator_of
from prunegrid.pruning.structured import criterion_module
from prunegrid.pruning.structured.removal_plan import Plan
from prunegrid.pruning.structured.unit_stats import look


def choose(
    model: nn.Module, plan: Plan, settings: Mapping, tokens: Tensor | None, job
) -> tuple[dict, dict]:
    """Return (removed, scores): (kind, block) → int64 indices of units that go; → all scores."""
    module = criterion_module(settings["method"])
    own = {key: settings[key] for key in module.SETTINGS}
    seed = job.seed("prune") if module.DRAWS else None
    linears = plan.linears
    seen = look(model, linears, tokens, module.NEEDS)
    wanted = {name for group in plan.groups for name in (*group.rows, *group.columns)}
    scores: dict[tuple[str, str], Tensor] = {}
    for block in plan.blocks.names:
        importance = {
            name: module.importance(
                oriented(linears[name]),
                seen[name],
                generator=None if seed is None else generator_of(seed, name),
                **own,
            )
            for name in plan.blocks.linears[block]
            if name in wanted
        }
        for group in plan.groups:
            if group.block == block:
                scores[group.kind, block] = group.scores(importance)
    return lowest_units(plan, scores), scores


def lowest_units(plan: Plan, scores: Mapping[tuple[str, str], Tensor]) -> dict:
    """Return the units of the lowest scores: in each layer, of blocks in the model."""
    removed = {}
    for (kind, block), values in scores.items():
        if kind != "blocks":
            order = values.argsort(stable=True)
            removed[kind, block] = order[: plan.counts[kind]].sort().values
    names = [block for kind, block in scores if kind == "blocks"]
    if names:
        totals = torch.cat([scores["blocks", name] for name in names])
        gone = set(totals.argsort(stable=True)[: plan.counts["blocks"]].tolist())
        for place, name in enumerate(names):
            removed["blocks", name] = torch.arange(int(place in gone))
    return removed
