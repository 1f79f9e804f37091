"""Checks of the contrasts that a study declares: each side is one thing that is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.common.perplexity_names import metric_name
from prunegrid.config import profiles, selectors
from prunegrid.config.cells import Cell
from prunegrid.config.fault import Fault

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def faults(
    config: Config, study: profiles.Study, cells: Sequence[Cell], raw: Mapping[str, Any]
) -> Iterator[Fault]:
    """Yield the faults of a study's contrasts and cliffs.

    Args:
        cells: all of its grid.
        raw: the unvalidated config: what names a broken profile of it has no fault of its own.
    """
    seen: set[str] = set()
    for index, contrast in enumerate(study.contrasts):
        keys = ("contrasts", index)
        if contrast.name in seen:
            yield Fault((*keys, "name"), f"is '{contrast.name}' a second time")
        seen.add(contrast.name)
        sides = {name: selectors.chosen(getattr(contrast, name), cells) for name in ("a", "b")}
        for name, chosen in sides.items():
            groups = dict.fromkeys(_group(cell) for cell in chosen)
            if len(groups) != 1 and not selectors.is_broken(config, getattr(contrast, name), raw):
                listing = "; ".join(groups) if groups else "no cell of the grid"
                text = f"chooses {listing}; expected the cells of one prune and finetune"
                yield Fault((*keys, name), text)
        if sides["a"] and sides["a"] == sides["b"]:
            yield Fault(keys, "has the same cells on both sides")
        yield from _measure(config, study, contrast, keys)
    for index, cliff in enumerate(study.cliffs):
        yield from _measure(config, study, cliff, ("cliffs", index))
    if study.cliffs:
        yield from _mixed(cells)


def _mixed(cells: Sequence[Cell]) -> Iterator[Fault]:
    """Along a cliff's line only the sparsity rises: its tests have an order that is fixed."""
    lines: dict[tuple, dict[tuple, str]] = {}
    for cell in cells:
        pruned = [step for step in cell.steps if step.kind == "prune" and not step.idle]
        if pruned:
            method = pruned[-1].profile.method
            line = (cell.model, cell.dataset, cell.names("finetune"), method)
            lines.setdefault(line, {}).setdefault(_but_sparsity(cell), cell.names("prune"))
    for line, found in lines.items():
        if len(found) > 1:
            one, other, *_ = found.values()
            text = f"has '{one}' and '{other}' on one line ({' / '.join(map(str, line))}), which "
            yield Fault(("cliffs",), f"{text}differ in more than sparsity; use a study for each")


def _but_sparsity(cell: Cell) -> tuple[str, ...]:
    """Return a cell's steps without their sparsity; of N:M, N is that."""
    steps = []
    for step in (step for step in cell.steps if not step.idle):
        profile = step.profile
        if step.kind == "prune":
            pair = parse_nm(profile.pattern)
            pattern = profile.pattern if pair is None else f"N:{pair[1]}"
            profile = profile.model_copy(update={"sparsity": None, "pattern": pattern})
        steps.append(f"{step.kind} {profile.model_dump_json()}")
    return tuple(steps)


def _group(cell: Cell) -> str:
    return " / ".join(str(value) for key, value in selectors.facts(cell).items() if key != "seed")


def _measure(
    config: Config,
    study: profiles.Study,
    contrast: profiles.Contrast | profiles.Cliff,
    keys: tuple,
) -> Iterator[Fault]:
    """Yield the faults of its split and metric."""
    named = {name: config.sections["evaluations"].get(name) for name in study.evaluations}
    texts = {s: p for p in named.values() if p and p.kind == "texts" for s in p.splits}
    texts |= {name: p for name, p in named.items() if p and p.kind == "translation"}
    perplexities = {name: p for name, p in named.items() if p and p.kind == "perplexity"}
    if contrast.split in perplexities:
        measured = perplexities[contrast.split]
        name = metric_name(measured.protocol, measured.window, measured.stride)
        if contrast.metric not in (None, name):
            known = nearest(contrast.metric, [name])
            yield Fault(
                (*keys, "metric"), f"is '{contrast.metric}', which is not measured; {known}"
            )
        return
    if None in named.values():
        return
    tasks = {t: m for n, p in named.items() for t, m in p.measures(config, n).items()}
    if contrast.split in tasks:
        if contrast.metric not in tasks[contrast.split]:
            known = nearest(contrast.metric or "", tasks[contrast.split])
            yield Fault((*keys, "metric"), f"is {contrast.metric!r}, which is not shown; {known}")
        return
    if contrast.split not in texts:
        known = nearest(contrast.split, [*texts, *perplexities, *tasks])
        yield Fault((*keys, "split"), f"is '{contrast.split}', which is not evaluated; {known}")
        return
    columns = columns_of(config, texts[contrast.split])
    if contrast.metric is None:
        yield Fault((*keys, "metric"), "is missing: texts have several")
    elif columns is not None and contrast.metric not in columns:
        known = nearest(contrast.metric, columns)
        yield Fault((*keys, "metric"), f"is '{contrast.metric}', which is not scored; {known}")
    elif columns is not None and columns[contrast.metric] is None:
        text = f"is {contrast.metric}, of which neither more nor less is better"
        yield Fault((*keys, "metric"), text)


def columns_of(config: Config, evaluation: Any) -> dict[str, bool | None] | None:
    """Return {column: higher is better} of an evaluation; None where not all can be known."""
    found: dict[str, bool | None] = {}
    for name in evaluation.metrics:
        profile = config.sections["metrics"].get(name)
        try:
            some = profile and plugins.metric_columns(name, profile.module, config.base)
        except PrunegridError:  # told already
            return None
        if some is None:
            return None
        found |= some
    return found
