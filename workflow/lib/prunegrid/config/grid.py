"""Expansion of a study's grid into its cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from prunegrid.common.errors import nearest
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.config import default_calibration, ranges
from prunegrid.config.cells import Cell, Chain, Step
from prunegrid.config.fault import Fault, GridError, unknown
from prunegrid.config.finetune_step import Finetune
from prunegrid.config.iterate import Iterate
from prunegrid.config.profile import message
from prunegrid.config.prune_step import Prune
from prunegrid.config.validated import Config

AXES = ("model", "dataset", "prune", "finetune", "steps", "iterate", "seed")
# Axes of which `exclude` may name values.
EXCLUDABLE = ("model", "dataset", "prune", "finetune", "seed")
# Combinations of one grid entry.
MOST = 20_000
STEP_PROFILES = {"prune": Prune, "finetune": Finetune}


def expand(config: Config, study_name: str) -> list[Cell]:
    """Return the cells of a study, each once, in the order of its grid.

    A name of a profile that is written but not valid is passed over: it has a fault of its own.

    Raises:
        GridError: unknown axes or names, or broken inline profiles.
    """
    study = config.profile("studies", study_name)
    expansion = _Expansion(config, study)
    grids = study.grid if isinstance(study.grid, list) else [study.grid]
    cells: dict[tuple, Cell] = {}
    for place, grid in [(("grid",), g) for g in grids] + [(("include",), g) for g in study.include]:
        for cell in expansion.cells(place, grid):
            key = cell.identity()
            cells[key] = cells[key].joined(cell) if key in cells else cell
    for pattern in study.exclude:
        for key in sorted(set(pattern) - set(EXCLUDABLE)):
            expansion.fault(("exclude", key), f"is not an axis; {nearest(key, EXCLUDABLE)}")
        if not expansion.faults and not any(cell.matches(pattern) for cell in cells.values()):
            expansion.fault(("exclude",), f"{pattern} matches no cell")
    if expansion.faults:
        raise GridError(expansion.faults)
    return [c for c in cells.values() if not any(c.matches(p) for p in study.exclude)]


class _Expansion:
    """The expansion of one study's grids; it collects their faults."""

    def __init__(self, config: Config, study: Any) -> None:
        self.config, self.study = config, study
        self.faults: list[Fault] = []
        self.named: dict[tuple[str, str], Any] = {}

    def fault(self, keys: tuple, text: str) -> None:
        self.faults.append(Fault(keys, text))

    def too_many(self, place: tuple, *axes: Sequence[Any]) -> bool:
        """Return whether axes have more combinations than anyone could run; record it."""
        number = math.prod(map(len, axes))
        if number > MOST:
            self.fault(place, f"unfolds to {number} combinations; expected at most {MOST}")
        return number > MOST

    def cells(self, place: tuple, grid: Mapping[str, Any]) -> list[Cell]:
        misplaced = set(grid) - set(AXES)
        for key in sorted(misplaced):
            self.fault((*place, key), f"is not an axis; {nearest(key, AXES)}")
        if "model" not in grid:
            self.fault((*place, "model"), "is missing")
        ways = [key for key in ("steps", "iterate") if key in grid]
        if len(ways + sorted({"prune", "finetune"} & set(grid))) > 1 and ways:
            self.fault(place, f"has `{ways[0]}`, and other steps beside it")
        if misplaced or "model" not in grid:
            return []
        models = self.names(place, "models", "model", grid["model"])
        datasets: list = [None]  # of a study that only counts weights
        if self.study.dataset is not None or "dataset" in grid:
            where, named = (place, grid) if "dataset" in grid else ((), vars(self.study))
            datasets = self.names(where, "datasets", "dataset", named["dataset"])
        chains = self.arms(place, grid) if "iterate" in grid else self.chains(place, grid)
        seeds = _listed(self.unrolled((*place, "seed"), grid.get("seed", self.config.seed)))
        for seed in seeds:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                self.fault((*place, "seed"), f"is {seed!r}; expected integers ≥ 0")
        for _, chain in chains:
            self.check_chain(place, chain)
        if self.too_many(place, models, datasets, chains, seeds):
            return []
        sampled = {model for model in models if self.samples(model)}
        cells = []
        for model, dataset, (arm, chain), seed in itertools.product(
            models, datasets, chains, seeds
        ):
            full = default_calibration.filled(chain, dataset, self.config.sections["calibration"])
            draws = model in sampled or any(step.draws for step in full)
            cells.append(Cell(model, dataset, full, seed if draws else None, arm))
        return cells

    def unrolled(self, place: tuple, value: Any) -> Any:
        """Return the values of a range, or the value; record the fault of a wrong range."""
        try:
            return ranges.unrolled(value)
        except ValueError as error:
            self.fault(place, str(error))
            return []

    def names(self, place: tuple, section: str, axis: str, value: Any) -> list[str]:
        """Return the names of valid profiles that an axis lists."""
        names = []
        for name in _listed(value):
            if not isinstance(name, str):
                self.fault((*place, axis), f"holds {name!r}; expected names of `{section}`")
            elif name in self.config.sections[section]:
                names.append(name)
            else:
                self.faults += unknown(self.config, (*place, axis), section, name)
        return names

    def check_chain(self, place: tuple, chain: Chain) -> None:
        """Record a fault if one name would stand for two profiles, or a chain cannot work."""
        for step in chain:
            profile = self.named.setdefault((step.kind, step.name), step.profile)
            if profile != step.profile:
                text = f"gives two profiles the name '{step.name}'; name them in `{step.kind}`"
                self.fault((*place, step.kind), text)
        acting = [step for step in chain if not step.idle]
        for before, after in itertools.pairwise(acting):
            for text in _misfits(before, after):
                self.fault(place, f"has {after.name} after {before.name}{text}")
        for step in acting[1:]:
            if getattr(step.profile, "propagation", "") == "dense":
                text = f"has propagation: dense in {step.name}, which is not the first step"
                self.fault(place, text)

    def samples(self, model: str) -> bool:
        """Return whether an evaluation of a model samples its tokens."""
        task = self.config.profile("models", model).task
        for name in self.study.evaluations:
            evaluation = self.config.sections["evaluations"].get(name)
            decoding = getattr(evaluation, "generation", None)
            generation = self.config.sections["generation"].get(decoding)
            if generation and generation.do_sample and task in evaluation.FITS:
                return True
        return False

    def arms(self, place: tuple, grid: Mapping[str, Any]) -> list[tuple[str | None, Chain]]:
        """Return (arm, chain) of every point of an iterated grid."""
        place = (*place, "iterate")
        try:
            iterate = Iterate.model_validate(grid["iterate"])
        except ValidationError as error:
            for item in error.errors():
                self.fault((*place, *map(str, item["loc"])), message(item))
            return []
        prunings: list[list[Step]] = []
        for body in iterate.prunes:
            levels = [{**body, "sparsity": [level]} for level in iterate.levels]
            by_level = [self.steps(place, "prune", level) for level in levels]
            prunings += map(list, zip(*by_level, strict=False))
        tunes = iterate.finetune is not None
        tunings = self.steps(place, "finetune", iterate.finetune) if tunes else []
        budgeted = {"one-shot-tuned", "dense-tuned"} & set(iterate.arms)
        if tunings and budgeted and tunings[0].profile.token_budget is None:
            text = f"names '{iterate.finetune}', which has no token_budget: arms are equal by it"
            self.fault((*place, "finetune"), text)
            return []
        if tunes and not tunings:
            return []
        return list(iterate.chains(prunings, lambda k: _with_budgets(tunings[0], k)))

    def chains(self, place: tuple, grid: Mapping[str, Any]) -> list[tuple[None, Chain]]:
        """Return (None, chain) of every chain of `steps`, or of `prune` and `finetune`."""
        pair = [{"prune": grid.get("prune", "dense")}, {"finetune": grid.get("finetune", "none")}]
        listed = grid.get("steps", [pair])
        if not isinstance(listed, list) or not all(isinstance(chain, list) for chain in listed):
            self.fault((*place, "steps"), "must be a list of chains: [[{prune: …}, {finetune: …}]]")
            return []
        chains: list[tuple[None, Chain]] = []
        axes = set(STEP_PROFILES)
        for entries in listed:
            steps = []
            for entry in entries:
                if not isinstance(entry, Mapping) or len(entry) != 1 or set(entry) - axes:
                    text = f"holds {entry!r}; expected {{prune: …}} or {{finetune: …}}"
                    self.fault((*place, "steps"), text)
                    continue
                ((kind, value),) = entry.items()
                steps.append(self.steps(place, kind, value))
            if self.too_many(place, *steps):
                return []
            chains += [(None, chain) for chain in itertools.product(*steps)]
        return chains

    def steps(self, place: tuple, kind: str, value: Any) -> list[Step]:
        """Return the steps that an axis lists: names of profiles, or profiles themselves."""
        steps = []
        for entry in _listed(value):
            if isinstance(entry, Mapping):
                steps += self.inline(place, kind, entry)
            else:
                for name in self.names(place, kind, kind, [entry]):
                    steps.append(Step(kind, name, self.config.profile(kind, name)))
        return steps

    def inline(self, place: tuple, kind: str, entry: Mapping[str, Any]) -> Iterator[Step]:
        """Yield a step for every combination of the listed values of an inline profile."""
        model = STEP_PROFILES[kind]
        entry = {key: self.unrolled((*place, kind, key), value) for key, value in entry.items()}
        varied = [
            k for k, v in entry.items() if isinstance(v, list) and not _takes_list(model, k, v)
        ]
        if self.too_many(place, *(entry[k] for k in varied)):
            return
        lead = "method" if kind == "prune" else "strategy"
        for values in itertools.product(*(entry[k] for k in varied)):
            body = {**entry, **dict(zip(varied, values, strict=True))}
            parts = [body.get(lead), *(body[k] for k in varied if k != lead)]
            label = "-".join(map(_label, parts))
            try:
                yield Step(kind, label, model.model_validate(body), inline=True)
            except ValidationError as error:
                for item in error.errors():
                    key = ".".join(str(part) for part in item["loc"])
                    keys = (*place, kind, *([key] if key else []))
                    self.fault(keys, f"({label}): {message(item)}")


def _misfits(before: Step, after: Step) -> Iterator[str]:
    """Yield why a step cannot come right after another."""
    refits = after.kind == "finetune" and after.profile.calibration is not None
    if before.kind == "finetune" and not before.profile.plain:
        yield ", which ends in weights that are final: packed, or with an adapter beside them"
    if before.kind == "finetune" and refits:
        yield "; it must come right after pruning"
    if _removes(before) and refits:
        yield (
            ": it refits weights to those before, and their shapes differ; use "
            "`update: least_squares` there"
        )
    if _removes(after) and getattr(before.profile, "exclude", ()):
        yield ": its linears that stay dense are no part of the shares of units; remove units first"
    pattern = getattr(before.profile, "pattern", "")
    if _removes(after) and "mlp" in after.profile.units and parse_nm(pattern):
        yield f": neurons that go break the groups of {pattern}; remove units first"


def _removes(step: Step) -> bool:
    """Return whether a step removes units, so that shapes change."""
    return getattr(step.profile, "pattern", "") == "structured"


def _with_budgets(tuning: Step, count: int) -> Step:
    """Return a fine-tuning of so many token budgets."""
    if count == 1:
        return tuning
    budget = count * tuning.profile.token_budget
    profile = tuning.profile.model_copy(update={"token_budget": budget})
    return Step("finetune", f"{tuning.name}-x{count}", profile, inline=True)


def _label(value: Any) -> str:
    """Return a value as a part of a step's name."""
    text = "_".join(map(str, value)) if isinstance(value, list) else str(value)
    text = text.removesuffix(".py")  # of a user's own plugin
    return text.replace(":", "of").replace(" ", "").replace("*.", "")


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _takes_list(model: Any, key: str, value: list) -> bool:
    """Return whether a list is one value of the field itself, not values to vary over."""
    field = model.model_fields.get(key)
    if field is None or any(isinstance(item, list) for item in value):
        return False
    kinds = [field.annotation, *get_args(field.annotation)]
    return any(get_origin(kind) is list for kind in kinds)
