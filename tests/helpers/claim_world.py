"""Made-up finished tables in which a given conclusion is borne out, contradicted, or left open."""

from __future__ import annotations

import math

from prunegrid.config.conclusions import Conclusion
from prunegrid.tables.files import typed_frame
from prunegrid.tables.finished import Finished, gather
from prunegrid.tables.schema import COLUMNS, LONG, PAIRS

# Metrics of which less is better begin so.
LOWER = ("ppl", "rep", "recognised_not")
NAMES = {"ppl_*": "ppl_2048_nonoverlap", "acc*": "acc"}
DENSE = {"method": "dense", "prune": "dense"} | dict.fromkeys(
    ("pattern", "sparsity_target", "allocation", "propagation")
)


def facts(wanted: dict) -> dict:
    """Return the columns of a cell that fits what a side of a conclusion wants."""
    wanted = {k: v[0] if isinstance(v, list) else v for k, v in wanted.items()}
    cell = {"method": "wanda", "pattern": "unstructured", "sparsity_target": 0.5}
    cell |= {"allocation": "uniform", "propagation": "sequential", "strategy": "lora"}
    cell |= {"loss_on": "response", "parameters": 1000, "zeros_promised": "all"}
    rounds = wanted.pop("iterative", False)
    again = "+again" if rounds else ""
    if not wanted.pop("tuned", True):
        cell |= {"strategy": "none", "loss_on": None}
    dense = not wanted.pop("pruned", True)
    if "tuned_by" in wanted:
        cell["strategy"] = wanted.pop("tuned_by")
    cell |= wanted
    cell["prune"] = f"{cell['method']}-{cell['pattern']}-{cell['sparsity_target']}{again}"
    for part in ("allocation", "refine", "update"):
        cell["prune"] += f"-{wanted[part]}" if wanted.get(part) else ""
    cell |= DENSE if dense else {}
    if rounds:
        cell["strategy"] = f"{cell['strategy']}+{cell['strategy']}"
    return {"finetune": f"{cell['strategy']}-{cell['loss_on']}"} | cell


class World:
    """Rows of the three tables of one study."""

    def __init__(self, study: str = "s") -> None:
        self.study, self.wide, self.long, self.pairs = study, [], [], []

    def cell(self, place: tuple[str, str], cell: dict) -> str:
        """Add a cell; return its name."""
        row = {column.name: None for column in COLUMNS} | cell
        row |= {"study": self.study, "model": place[0], "dataset": place[1], "status": "ok"}
        self.wide.append(row)
        return f"{row['prune']} / {row['finetune']}"

    def score(self, place, cell: dict, metric: str, split: str, **values) -> None:
        """Add a long row of a cell."""
        row = {column.name: None for column in LONG} | {"study": self.study, "kind": "cell"}
        row |= {"model": place[0], "dataset": place[1], "split": split, "metric": metric}
        row |= {"prune": cell["prune"], "finetune": cell["finetune"], "n": 50, "value": 0.5}
        row["higher_is_better"] = not metric.startswith(LOWER)
        self.long.append(row | values)

    def pair(self, place, a: dict, b: dict, metric: str, better: float, error: float, **more):
        """Add a pair whose side a is better by so much (of a perplexity: in nats)."""
        names = [self.cell(place, side) for side in (a, b)]
        split = more.pop("split", "test")
        for side in (a, b):
            self.score(place, side, metric, split)
        ratio = metric.startswith("ppl")
        raw = better if not metric.startswith(LOWER) else -better
        shown = math.exp if ratio else float
        row = {column.name: None for column in PAIRS} | {"study": self.study, "split": split}
        row |= {"model": place[0], "dataset": place[1], "metric": metric, "n": 50}
        row |= {"a": names[0], "b": names[1], "seeds_a": 1, "seeds_b": 1, "value_a": 1.0}
        row |= {"value_b": 1.0, "effect": "ratio" if ratio else "difference"}
        low, high = raw - 1.96 * error, raw + 1.96 * error
        row |= {"value": shown(raw), "low": shown(low), "high": shown(high)}
        self.pairs.append(row | more)

    def tables(self) -> Finished:
        """Return the tables as read from files."""
        made = []
        for rows, columns in ((self.wide, COLUMNS), (self.long, LONG), (self.pairs, PAIRS)):
            extra = {k for row in rows for k in row} - {c.name for c in columns}
            assert not extra, extra
            made.append(typed_frame(rows, columns))
        return gather(*made)


def places(claim: Conclusion, inside: bool) -> list[tuple[str, str]]:
    """Return (model, data set) in or outside a claim's scope, two models where it has two."""
    if not inside:
        return [("another", "aclsum"), ("a-fourth", "aclsum")]
    data = claim.scope.dataset[0].replace("*", "aclsum")
    return [(model, data) for model in (*claim.scope.model, claim.scope.model[0])[:2]]


def split_of(claim: Conclusion) -> str:
    """Return a split (of a perplexity, an evaluation) of a claim's scope."""
    return claim.scope.split[0].replace("*", "test")


def metric_of(claim: Conclusion) -> str:
    """Return a metric of a claim's scope."""
    return NAMES.get(claim.scope.metric[0], claim.scope.metric[0])


def bear(world: World, claim: Conclusion, speaks: str, inside: bool = True) -> World:
    """Add evidence to a world that speaks for a claim, against it, or neither."""
    add = {
        "better": _both if getattr(claim, "with_more", None) else _pair,
        "equivalent": _same,
        "measure": _measure,
        "sensitivity": _sensitivity,
        "chance": _chance,
    }[claim.kind]
    add(world, claim, speaks, places(claim, inside))
    return world


def _bound(claim: Conclusion) -> float:
    if metric_of(claim).startswith("ppl"):
        return math.log(claim.factor)
    return claim.margin


def _sides(claim: Conclusion) -> tuple[dict, dict]:
    return facts(claim.a), facts(claim.b)


def _pair(world, claim, speaks, where):
    shift, error = {"for": (0.2, 0.01), "against": (-0.2, 0.01), "neither": (0.01, 1)}[speaks]
    better, split = _bound(claim) + shift, split_of(claim)
    world.pair(where[0], *_sides(claim), metric_of(claim), better, error, split=split)


def _same(world, claim, speaks, where):
    shift, error = {"for": (0, 1e-4), "against": (0.5, 0.01), "neither": (0, 1)}[speaks]
    better = 0 if speaks == "for" else shift
    split = split_of(claim)
    world.pair(where[0], *_sides(claim), metric_of(claim), better, error, split=split)


def _measure(world, claim, speaks, where):
    bound = claim.at_most or claim.at_least
    factor = (1 + claim.tolerance) * 1.2
    less = {"for": claim.at_most is not None, "against": claim.at_least is not None}
    ratio = bound if speaks == "neither" else bound / factor if less[speaks] else bound * factor
    for side, value in zip(_sides(claim), (1000 * ratio, 1000), strict=True):
        world.cell(where[0], side | {metric_of(claim): round(value)})


def _both(world, claim, speaks, where):
    a, b = facts({}), facts({"method": "magnitude"})
    shift = {"for": 0.2, "against": -0.2, "neither": 0.0}[speaks]
    world.pair(where[0], a, b, claim.with_more, -0.3, 0.01)
    world.pair(where[0], a, b, metric_of(claim), shift, 0.01)


def _sensitivity(world, claim, speaks, where):
    pruned, dense = _sides(claim)
    losses, error = {"for": (0.9, 0.2), "against": (0.2, 0.9), "neither": (0.5, 0.5)}[speaks], 0.01
    splits = [split_of(claim)] * 2
    if claim.across == "task":
        losses, error = {"for": (0.9, 0.2), "neither": (0.2, 0.3)}.get(speaks, (0.2, 0.2)), 0.01
        where, splits = [where[0]] * 2, [splits[0], f"{splits[0]}-other"]
    for place, split, loss, size in zip(where, splits, losses, (1000, 2000), strict=True):
        sides = (pruned | {"parameters": size}, dense | {"parameters": size})
        world.pair(place, *sides, metric_of(claim), -loss, error, split=split)


def _chance(world, claim, speaks, where):
    pruned, dense = facts(claim.a), facts({"pruned": False})
    low = {"for": (False, False), "against": (True, False), "neither": (True, True)}[speaks]
    for side, at_chance in zip((pruned, dense), low, strict=True):
        world.cell(where[0], side)
        # Of two seeds one is above chance in any case.
        for seed, (value, under) in enumerate([(0.5, False), (0.35, at_chance)]):
            levels = {"chance": 0.25, "at_chance": under, "value": value, "seed": seed}
            levels |= {"low": value - (0.15 if under else 0.05), "high": value + 0.1}
            world.score(where[0], side, metric_of(claim), split_of(claim), **levels)
