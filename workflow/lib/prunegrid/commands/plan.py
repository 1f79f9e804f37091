"""The plan of a study, before anything runs: jobs, hours, memory and disk of each rule."""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tabulate import tabulate

from prunegrid.commands import adopt
from prunegrid.common import machine
from prunegrid.config import default_calibration
from prunegrid.graph import nodes
from prunegrid.graph.artifact_graph import Graph
from prunegrid.graph.nodes import Node, with_ancestors
from prunegrid.graph.pending import pending
from prunegrid.graph.stage_facts import stage_facts
from prunegrid.running import costs, history, outlook, resources

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclass
class Rule:
    """The jobs of a rule, and what they take together.

    Attributes:
        jobs: how many would run.
        done: how many are there.
        seconds: of all of them, one after another.
        cpu_seconds: seconds times threads.
        gpu_seconds: seconds times GPUs; 0 on a CPU.
        memory: the most that one is estimated to need, MB.
        disk: bytes that they write and keep.
        bases: how many estimates come from steps alike, from the stage, from the formula.
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
        """Add a job that would run."""
        self.jobs += 1
        processes = step.settings.get("processes", 1)
        self.seconds += estimate.seconds
        self.cpu_seconds += estimate.seconds * step.threads
        self.gpu_seconds += estimate.seconds * processes * (step.device == "cuda")
        self.memory = max(self.memory, resources.memory(step))
        self.disk += estimate.disk
        self.bases[estimate.basis] += 1


@dataclass(frozen=True)
class Plan:
    """A study's plan.

    Attributes:
        rules: in the order of their steps.
        droppable: bytes of the weights that `keep_weights: until_used` would drop.
        unknown: models of unknown size.
        upgraded: steps that would run only because code or versions changed.
        about: how long all of it takes on this machine, in words; "" if nothing is to run.
        precision: of the steps that tune, in words.
        calibrations: those that no profile names, in words.
    """

    study: str
    cells: int
    rules: dict[str, Rule]
    droppable: int
    unknown: list[str]
    upgraded: list[adopt.Upgrade]
    about: str
    precision: str
    calibrations: list[str] = field(default_factory=list)


def plan(graph: Graph, study: str, results: Path) -> Plan:
    """Return the plan of a study; `results` holds artifacts and benchmark files."""
    leaves = graph.study_leaves(study)
    todo = pending(leaves)
    known = graph.config.sections["calibration"]
    defaults = (default_calibration.told(p.cell.steps, known) for p in graph.plans(study))
    experience = history.seen(results)
    expected = outlook.expected(todo, experience)
    rules: dict[str, Rule] = {}
    unknown: dict[str, None] = {}
    droppable = 0
    waiting = set(todo)
    for node in _by_rule(with_ancestors(leaves)):
        rule = rules.setdefault(stage_facts(node.stage).rule, Rule())
        if node not in waiting:
            rule.done += 1
            continue
        step, is_known = resources.planned_step(node)
        if not is_known:
            unknown |= dict.fromkeys(_models(node))
        estimate = experience.estimate(step, DTYPE_BYTES[graph.config.dtype])
        rule.add(step, replace(estimate, seconds=expected.seconds[node]))
        droppable += estimate.disk if node.stage in nodes.WEIGHTS_MADE else 0
    return Plan(
        study=study,
        cells=len(graph.plans(study)),
        rules=rules,
        droppable=droppable,
        unknown=list(unknown),
        upgraded=adopt.find(graph, todo, results),
        about=expected.text() if todo else "",
        precision=_precision(node for node in with_ancestors(leaves) if node in waiting),
        calibrations=list(dict.fromkeys(line for lines in defaults for line in lines)),
    )


def _by_rule(nodes: Sequence[Node]) -> list[Node]:
    """Return nodes by their rules: first the rule whose last node has the fewest steps before."""

    @functools.cache
    def before(node: Node) -> int:
        return 1 + max(map(before, node.parents.values()), default=-1)

    last: dict[str, int] = {}
    for node in nodes:
        rule = stage_facts(node.stage).rule
        last[rule] = max(last.get(rule, 0), before(node))
    return sorted(nodes, key=lambda node: last[stage_facts(node.stage).rule])


def _precision(nodes: Iterable[Node]) -> str:
    """Return in words the precision of the steps that tune; "" if there is none."""
    counts = Counter(node.compute_dtype for node in nodes if node.stage == "finetune")
    return ", ".join(f"{count} in {name}" for name, count in sorted(counts.items()))


def _models(node: Node) -> list[str]:
    """Return the labels of a node's models of unknown size."""
    models = [n for n in with_ancestors([node]) if n.stage == "model"]
    return [model.label for model in models if resources.likely_parameters(model) is None]


def lines(whole: Plan, keep: str) -> list[str]:
    """Return the plan in words and a table; `keep` is the config's `keep_weights`."""
    total = Rule()
    for rule in whole.rules.values():
        total.memory = max(total.memory, rule.memory)
        for name in ("jobs", "done", "seconds", "cpu_seconds", "gpu_seconds", "disk", "bases"):
            setattr(total, name, getattr(total, name) + getattr(rule, name))
    rows = [("rule", "jobs", "done", "hours", "CPU h", "GPU h", "memory", "disk", "from")]
    rows += [_row(name, rule) for name, rule in whole.rules.items()]
    rows.append(_row("total", total))
    sides = ["left", *["right"] * 7, "left"]
    table = tabulate(rows, tablefmt="plain", disable_numparse=True, colalign=sides)
    text = [f"{whole.study}: {whole.cells} cells, {total.jobs} jobs to run, and its table", ""]
    text += [line.rstrip() for line in table.splitlines()]
    return [*text, "", *_remarks(whole, keep)]


def _row(name: str, rule: Rule) -> tuple[str, ...]:
    hours = (rule.seconds, rule.cpu_seconds, rule.gpu_seconds)
    shown = [f"{seconds / 3600:.2f}" if rule.jobs else "" for seconds in hours]
    memory = f"{rule.memory / 1000:.1f} GB" if rule.jobs else ""
    disk = f"{rule.disk / 1e9:.2f} GB" if rule.jobs else ""
    basis = ", ".join(f"{count} {basis}" for basis, count in rule.bases.most_common())
    return (name, str(rule.jobs), str(rule.done), *shown, memory, disk, basis)


def _remarks(whole: Plan, keep: str) -> list[str]:
    needed = sum(rule.disk for rule in whole.rules.values())
    text = [
        "times: alike = scaled from finished steps of the same method; stage = of the same stage; "
        "formula = from the model's size (docs/how-to/plan.md)"
    ]
    if whole.about:
        text.append(f"all of it on the {machine.cores()} cores of this machine: {whole.about}")
    if whole.precision:
        text.append(
            f"tunings compute: {whole.precision} (compute_dtype and autocast in the config)"
        )
    text += whole.calibrations
    free = shutil.disk_usage(Path.cwd()).free
    droppable = f"{whole.droppable / 1e9:.1f} GB"
    if keep == "until_used":
        text.append(
            f"disk: {(needed - whole.droppable) / 1e9:.1f} GB stay; {droppable} "
            "of weights go as soon as no step needs them (keep_weights: until_used)"
        )
    elif whole.droppable:
        text.append(f"disk: keep_weights: until_used would drop {droppable} of it")
    if needed > free:
        text.append(f"disk: only {free / 1e9:.1f} GB are free here")
    if whole.unknown:
        names = ", ".join(whole.unknown)
        size = f"{resources.UNKNOWN / 1e9:.0f} billion parameters"
        text.append(f"size not known, planned as {size}: {names} (set a model's `parameters`)")
    return text + adopt.lines(whole.upgraded, whole.study)
