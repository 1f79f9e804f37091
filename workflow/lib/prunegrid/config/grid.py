"""From a study's grid to its cells."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import ValidationError

from prunegrid.common.errors import nearest
from prunegrid.common.nm_pattern import parse_nm
from prunegrid.config import profiles
from prunegrid.config.arms import chains_of
from prunegrid.config.cells import Cell, Chain, Step
from prunegrid.config.evaluations import fits
from prunegrid.config.fault import Fault, GridError
from prunegrid.config.sparsity_schedule import Iterate

if TYPE_CHECKING:
    from prunegrid.config.validated import Config

AXES = ("model", "dataset", "prune", "finetune", "steps", "iterate", "seed")
# Combinations of one grid entry.
MOST = 20_000
STEP_PROFILES = {"prune": profiles.Prune, "finetune": profiles.Finetune}


def expand(config: Config, study_name: str, known: Mapping[str, Any] | None = None) -> list[Cell]:
    """Return the cells of a study, each once, in the order of its grid.

    Args:
        config: the validated profiles.
        study_name: a name of `studies`.
        known: the raw config; a name that stands there but is not valid is passed over silently,
            since its own fault is reported already.

    Raises:
        GridError: unknown axes or names, or broken inline profiles.
    """
    study = config.sections["studies"][study_name]
    expansion = _Expansion(config, study, known or {})
    grids = study.grid if isinstance(study.grid, list) else [study.grid]
    cells: dict[tuple, Cell] = {}
    for place, grid in [(("grid",), g) for g in grids] + [(("include",), g) for g in study.include]:
        for cell in expansion.cells(place, grid):
            key = cell.identity()
            cells[key] = cells[key].joined(cell) if key in cells else cell
    for pattern in study.exclude:
        expansion.check_pattern(pattern)
        if not expansion.faults and not any(_matches(c, pattern) for c in cells.values()):
            expansion.fault(("exclude",), f"{pattern} matches no cell")
    if expansion.faults:
        raise GridError(expansion.faults)
    return [c for c in cells.values() if not any(_matches(c, p) for p in study.exclude)]


def _matches(cell: Cell, pattern: Mapping[str, Any]) -> bool:
    facts = {
        "model": cell.model,
        "dataset": cell.dataset,
        "prune": cell.names("prune"),
        "finetune": cell.names("finetune"),
        "seed": cell.seed,
    }
    return all(facts[key] in (v if isinstance(v, list) else [v]) for key, v in pattern.items())


class _Expansion:
    def __init__(self, config: Config, study: Any, known: Mapping[str, Any]) -> None:
        self.config, self.study, self.known = config, study, known
        self.faults: list[Fault] = []
        self.named: dict[tuple[str, str], Any] = {}

    def fault(self, keys: tuple, text: str) -> None:
        self.faults.append(Fault(keys, text))

    def too_many(self, place: tuple, *axes: Sequence[Any]) -> bool:
        """Return whether axes have more combinations than could ever be run; record it."""
        number = math.prod(map(len, axes))
        if number > MOST:
            self.fault(place, f"unfolds to {number} combinations; expected at most {MOST}")
        return number > MOST

    def check_pattern(self, pattern: Mapping[str, Any]) -> None:
        known = {"model", "dataset", "prune", "finetune", "seed"}
        for key in sorted(set(pattern) - known):
            self.fault(("exclude", key), f"is not an axis; {nearest(key, known)}")

    def cells(self, place: tuple, grid: Mapping[str, Any]) -> list[Cell]:
        unknown = set(grid) - set(AXES)
        for key in sorted(unknown):
            self.fault((*place, key), f"is not an axis; {nearest(key, AXES)}")
        if "model" not in grid:
            self.fault((*place, "model"), "is missing")
        ways = [key for key in ("steps", "iterate") if key in grid]
        if len(ways + sorted({"prune", "finetune"} & set(grid))) > 1 and ways:
            self.fault(place, f"has `{ways[0]}`, and other steps beside it")
        if unknown or "model" not in grid:
            return []
        models = self.plain(place, "models", "model", grid["model"])
        datasets = self.datasets(place, grid)
        chains = self.arms(place, grid) if "iterate" in grid else self.chains(place, grid)
        seeds = _listed(grid.get("seed", self.config.seed))
        for seed in seeds:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                self.fault((*place, "seed"), f"is {seed!r}; expected integers ≥ 0")
        self.check_names(place, [chain for _, chain in chains])
        if self.too_many(place, models, datasets, chains, seeds):
            return []
        sampled = {model for model in models if self.samples(model)}
        return [
            Cell(model, dataset, chain, seed if model in sampled or _draws(chain) else None, arm)
            for model, dataset, (arm, chain), seed in itertools.product(
                models, datasets, chains, seeds
            )
        ]

    def datasets(self, place: tuple, grid: Mapping[str, Any]) -> list[str] | list[None]:
        """Return the data sets of a grid; a study that counts weights alone may have none."""
        if self.study.dataset is None and "dataset" not in grid:
            return [None]
        return self.plain(place, "datasets", "dataset", grid.get("dataset", self.study.dataset))

    def check_names(self, place: tuple, chains: list[tuple[Step, ...]]) -> None:
        """Record a fault where one name would stand for two profiles, or a chain cannot work."""
        for step in (step for chain in chains for step in chain):
            known = self.named.setdefault((step.kind, step.name), step.profile)
            if known != step.profile:
                text = f"gives two profiles the name '{step.name}'; name them in `{step.kind}`"
                self.fault((*place, step.kind), text)
        for chain in chains:
            acting = [step for step in chain if not step.idle]
            for before, after in itertools.pairwise(acting):
                if before.kind == "finetune" and not before.profile.plain:
                    text = f"has {after.name} after {before.name}, which ends in weights that are "
                    self.fault(place, text + "final: packed, or with an adapter beside them")
                if before.kind == "finetune" and _needs_dense(after):
                    text = f"has {after.name} after {before.name}; it must come right after pruning"
                    self.fault(place, text)
            for before, after in itertools.pairwise(acting):
                self.check_shapes(place, before, after)
            for step in acting[1:]:
                if getattr(step.profile, "propagation", "") == "dense":
                    text = f"has propagation: dense in {step.name}, which is not the first step"
                    self.fault(place, text)

    def check_shapes(self, place: tuple, before: Step, after: Step) -> None:
        """Record a fault where a step needs shapes or groups that removed units do not leave."""
        if _removes(before) and _needs_dense(after):
            text = f"has {after.name} after {before.name}: it refits weights to those before, and "
            self.fault(place, text + "their shapes differ; use `update: least_squares` there")
        pattern = getattr(before.profile, "pattern", "")
        if _removes(after) and "mlp" in after.profile.units and parse_nm(pattern):
            text = f"has {after.name} after {before.name}: neurons that go break the groups of "
            self.fault(place, text + f"{pattern}; remove units first")

    def samples(self, model: str) -> bool:
        """Whether an evaluation that a model is asked samples its tokens."""
        task = self.config.sections["models"][model].task
        for name in self.study.evaluations:
            evaluation = self.config.sections["evaluations"].get(name)
            generation = self.config.sections["generation"].get(
                getattr(evaluation, "generation", None)
            )
            if generation and generation.do_sample and fits(evaluation, task):
                return True
        return False

    def plain(self, place: tuple, section: str, axis: str, value: Any) -> list[str]:
        found = []
        for name in _listed(value):
            if not isinstance(name, str):
                self.fault((*place, axis), f"holds {name!r}; expected names of `{section}`")
            elif name in self.config.sections[section]:
                found.append(name)
            elif name not in _mapping(self.known.get(section)):
                hint = nearest(name, self.config.sections[section])
                self.fault((*place, axis), f"names '{name}', which is not in `{section}`; {hint}")
        return found

    def arms(self, place: tuple, grid: Mapping[str, Any]) -> list[tuple[str | None, Chain]]:
        """Return (arm, chain) of every point of an iterated grid."""
        place = (*place, "iterate")
        try:
            iterate = Iterate.model_validate(grid["iterate"])
        except ValidationError as error:
            for item in error.errors():
                keys = [str(part) for part in item["loc"]]
                self.fault((*place, *keys), item["msg"].removeprefix("Value error, "))
            return []
        prunings: list[list[Step]] = []
        for body in iterate.prunes:
            found = [self.inline(place, "prune", {**body, "sparsity": [s]}) for s in iterate.levels]
            prunings += [list(steps) for steps in zip(*found, strict=False)]
        tunings = self.steps(place, "finetune", iterate.finetune) if iterate.finetune else []
        budgeted = {"one-shot-tuned", "dense-tuned"} & set(iterate.arms)
        if tunings and budgeted and tunings[0].profile.token_budget is None:
            text = f"names '{iterate.finetune}', which has no token_budget: arms are equal by it"
            self.fault((*place, "finetune"), text)
            return []
        if iterate.finetune and not tunings:
            return []
        return list(chains_of(iterate, prunings, lambda k: _budgets(tunings[0], k)))

    def chains(self, place: tuple, grid: Mapping[str, Any]) -> list[tuple[None, Chain]]:
        if "steps" not in grid:
            prunes = self.steps(place, "prune", grid.get("prune", "dense"))
            tunings = self.steps(place, "finetune", grid.get("finetune", "none"))
            return [(None, (prune, tune)) for prune in prunes for tune in tunings]
        chains = []
        listed = grid["steps"]
        if not isinstance(listed, list) or not all(isinstance(chain, list) for chain in listed):
            self.fault((*place, "steps"), "must be a list of chains: [[{prune: …}, {finetune: …}]]")
            return []
        for chain in listed:
            steps: list[tuple[Step, ...]] = []
            for entry in chain:
                if not (
                    isinstance(entry, Mapping)
                    and len(entry) == 1
                    and set(entry) <= set(STEP_PROFILES)
                ):
                    self.fault(
                        (*place, "steps"),
                        f"holds {entry!r}; expected {{prune: …}} or {{finetune: …}}",
                    )
                    continue
                kind, value = next(iter(entry.items()))
                steps.append(tuple(self.steps(place, kind, value)))
            if self.too_many(place, *steps):
                return []
            chains.extend((None, chain) for chain in itertools.product(*steps))
        return chains

    def steps(self, place: tuple, kind: str, value: Any) -> list[Step]:
        found = []
        for entry in _listed(value):
            if isinstance(entry, Mapping):
                found += self.inline(place, kind, entry)
            elif not isinstance(entry, str):
                self.fault((*place, kind), f"holds {entry!r}; expected names of `{kind}`")
            elif entry in self.config.sections[kind]:
                found.append(Step(kind, entry, self.config.sections[kind][entry]))
            elif entry not in _mapping(self.known.get(kind)):
                hint = nearest(entry, self.config.sections[kind])
                self.fault((*place, kind), f"names '{entry}', which is not in `{kind}`; {hint}")
        return found

    def inline(self, place: tuple, kind: str, entry: Mapping[str, Any]) -> list[Step]:
        """Return a step for every combination of the listed values of an inline profile."""
        model = STEP_PROFILES[kind]
        varied = [
            k for k, v in entry.items() if isinstance(v, list) and not _takes_list(model, k, v)
        ]
        fixed = {k: v for k, v in entry.items() if k not in varied}
        found = []
        if self.too_many(place, *(entry[k] for k in varied)):
            return []
        for values in itertools.product(*(entry[k] for k in varied)):
            body = {**fixed, **dict(zip(varied, values, strict=True))}
            lead = "method" if kind == "prune" else "strategy"
            said = [body.get(lead), *(body[k] for k in entry if k in varied and k != lead)]
            label = "-".join(map(_said, said))
            try:
                found.append(Step(kind, label, model.model_validate(body), inline=True))
            except ValidationError as error:
                for item in error.errors():
                    key = ".".join(str(part) for part in item["loc"])
                    message = item["msg"].removeprefix("Value error, ")
                    self.fault((*place, kind, *([key] if key else [])), f"({label}): {message}")
        return found


def _draws(chain: Chain) -> bool:
    """Whether the seed reaches a step of a chain."""
    return any(step.draws for step in chain)


def _budgets(tuning: Step, count: int) -> Step:
    """Return a fine-tuning of so many token budgets."""
    if count == 1:
        return tuning
    profile = tuning.profile.model_copy(
        update={"token_budget": count * tuning.profile.token_budget}
    )
    return Step("finetune", f"{tuning.name}-x{count}", profile, inline=True)


def _removes(step: Step) -> bool:
    """Whether a step removes units, so that shapes change."""
    return getattr(step.profile, "pattern", "") == "structured"


def _said(value: Any) -> str:
    """Return a value as a part of a name."""
    text = "_".join(map(str, value)) if isinstance(value, list) else str(value)
    return text.replace(":", "of").replace(" ", "").replace("*.", "")


def _needs_dense(step: Step) -> bool:
    """Whether a step refits pruned weights to what they were before."""
    return step.kind == "finetune" and step.profile.calibration is not None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _takes_list(model: Any, key: str, value: list) -> bool:
    """Whether a list is one value of the field itself (and not a list of values to vary over)."""
    field = model.model_fields.get(key)
    if field is None or any(isinstance(item, list) for item in value):
        return False
    kinds = [field.annotation, *get_args(field.annotation)]
    return any(get_origin(kind) is list for kind in kinds)
