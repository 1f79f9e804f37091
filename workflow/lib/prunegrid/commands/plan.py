"""What a study would cost, before anything runs: jobs, hours, memory and disk by rule."""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prunegrid.commands import adopt, history
from prunegrid.graph import nodes
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import Node, with_ancestors
from prunegrid.graph.pending import pending
from prunegrid.graph.stage_facts import stage_facts
from prunegrid.running import costs, resources

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass
class Rule:
    """What the jobs of a rule come to.

    Attributes:
        jobs: how many would run.
        done: how many are there.
        seconds: of all of them, one after another.
        cpu_seconds: seconds times threads.
        gpu_seconds: seconds times GPUs; 0 on a CPU.
        memory: the most that one is estimated to need, MB.
        disk: bytes that they write and keep.
        bases: how many times come from steps alike, from the stage, from the formula.
    """

    jobs: int = 0
    done: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    memory: float = 0.0
    disk: int = 0
    bases: Counter = field(default_factory=Counter)

    def add(self, step: costs.Step, estimate: history.Estimate) -> None:
        """Add what a step costs."""
        processes = step.settings.get("processes", 1)
        self.seconds += estimate.seconds
        self.cpu_seconds += estimate.seconds * step.threads
        self.gpu_seconds += estimate.seconds * processes * (step.device == "cuda")
        self.memory = max(self.memory, resources.memory(step))
        self.disk += estimate.disk
        self.bases[estimate.basis] += 1


@dataclass(frozen=True)
class Plan:
    """A study's plan: by rule in the order of the steps, and what is to be said of it."""

    study: str
    cells: int
    rules: dict[str, Rule]
    droppable: int
    unknown: list[str]
    upgraded: list[adopt.Upgrade]
    precision: str


def plan(graph: Graph, study: str, results: Path) -> Plan:
    """Return the plan of a study.

    Args:
        graph: of the config.
        study: its name.
        results: the folder of artifacts and benchmark files.
    """
    leaves = graph.study_leaves(study)
    todo = pending(leaves)
    experience = history.Experience(history.read(results))
    rules: dict[str, Rule] = {}
    unknown: dict[str, None] = {}
    droppable = 0
    waiting = set(todo)
    for node in _by_rule(with_ancestors(leaves)):
        rule = rules.setdefault(stage_facts(node.stage).rule, Rule())
        if node not in waiting:
            rule.done += 1
            continue
        step = resources.step_of(node, resources.likely_parameters)
        if step.parameters is None and _reads_weights(node):
            step = replace(step, parameters=resources.UNKNOWN)
            unknown |= dict.fromkeys(_models(node))
        estimate = experience.estimate(step, DTYPE_BYTES[graph.config.dtype])
        rule.jobs += 1
        rule.add(step, estimate)
        droppable += estimate.disk if node.stage in nodes.WEIGHTS_MADE else 0
    cells = len(graph.plans(study))
    found = adopt.find(graph, todo, results)
    precision = _precision(node for node in with_ancestors(leaves) if node in waiting)
    return Plan(study, cells, rules, droppable, list(unknown), found, precision)


def _by_rule(nodes: Sequence[Node]) -> list[Node]:
    """Return nodes by their rules: those first whose last node has fewest steps before it."""

    @functools.cache
    def before(node: Node) -> int:
        return 1 + max(map(before, node.parents.values()), default=-1)

    last: dict[str, int] = {}
    for node in nodes:
        rule = stage_facts(node.stage).rule
        last[rule] = max(last.get(rule, 0), before(node))
    return sorted(nodes, key=lambda node: last[stage_facts(node.stage).rule])


def _precision(nodes: Iterable[Node]) -> str:
    """Return in words what steps that tune compute in; empty where none does."""
    counts = Counter(node.compute_dtype for node in nodes if node.stage == "finetune")
    return ", ".join(f"{count} in {name}" for name, count in sorted(counts.items()))


def _reads_weights(node: Node) -> bool:
    return node.stage == "model" or any(p.stage in resources.WEIGHTS for p in node.parents.values())


def _models(node: Node) -> list[str]:
    """Return the models of unknown size that a node is made of."""
    models = [n for n in with_ancestors([node]) if n.stage == "model"]
    return [model.label for model in models if resources.likely_parameters(model) is None]


def lines(found: Plan, keep: str) -> list[str]:
    """Return the plan in words and a table.

    Args:
        found: the plan.
        keep: the config's `keep_weights`.
    """
    total = sum(rule.jobs for rule in found.rules.values())
    rows = [("rule", "jobs", "done", "hours", "CPU h", "GPU h", "memory", "disk", "from")]
    rows += [_row(name, rule) for name, rule in found.rules.items() if rule.jobs or rule.done]
    rows.append(_row("total", _total(list(found.rules.values()))))
    text = [f"{found.study}: {found.cells} cells, {total} jobs to run, and its table", ""]
    text += _aligned(rows)
    text += ["", *_remarks(found, keep)]
    return text


def _total(rules: Sequence[Rule]) -> Rule:
    whole = Rule(memory=max((rule.memory for rule in rules), default=0.0))
    for rule in rules:
        whole.bases += rule.bases
        for name in ("jobs", "done", "seconds", "cpu_seconds", "gpu_seconds", "disk"):
            setattr(whole, name, getattr(whole, name) + getattr(rule, name))
    return whole


def _row(name: str, rule: Rule) -> tuple[str, ...]:
    hours = (rule.seconds, rule.cpu_seconds, rule.gpu_seconds)
    shown = [f"{seconds / 3600:.2f}" if rule.jobs else "" for seconds in hours]
    memory = f"{rule.memory / 1000:.1f} GB" if rule.jobs else ""
    disk = f"{rule.disk / 1e9:.2f} GB" if rule.jobs else ""
    basis = ", ".join(f"{count} {basis}" for basis, count in rule.bases.most_common())
    return (name, str(rule.jobs), str(rule.done), *shown, memory, disk, basis)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if place in (0, 8) else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _remarks(found: Plan, keep: str) -> list[str]:
    needed = sum(rule.disk for rule in found.rules.values())
    text = [
        "times: alike = scaled from finished steps of the same method; stage = of the same stage; "
        "formula = from the model's size (docs/operations.md)"
    ]
    if found.precision:
        text.append(
            f"tunings compute: {found.precision} (compute_dtype and autocast in the config)"
        )
    free = shutil.disk_usage(Path.cwd()).free
    if keep == "until_used":
        text.append(
            f"disk: {(needed - found.droppable) / 1e9:.1f} GB stay; {found.droppable / 1e9:.1f} GB "
            "of weights go as soon as no step needs them (keep_weights: until_used)"
        )
    elif found.droppable:
        text.append(
            f"disk: keep_weights: until_used would drop {found.droppable / 1e9:.1f} GB of it"
        )
    if needed > free:
        text.append(f"disk: only {free / 1e9:.1f} GB are free here")
    if found.unknown:
        names = ", ".join(found.unknown)
        billions = f"{resources.UNKNOWN / 1e9:.0f} billion parameters"
        text.append(
            f"size not known, planned as {billions}: {names} (a model's `parameters` tells)"
        )
    return text + adopt.lines(found.upgraded, found.study)
