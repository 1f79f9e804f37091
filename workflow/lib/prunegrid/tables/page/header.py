"""The header of the page: the study, one sentence on its outcome, counts, versions, digests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prunegrid import __version__
from prunegrid.tables.compared import drift
from prunegrid.tables.figures import display_names
from prunegrid.tables.figures.points import Cell, Score, cells_of, scores_of
from prunegrid.tables.headline import Measure, measures_of
from prunegrid.tables.markdown import between
from prunegrid.tables.page.part import PageFacts
from prunegrid.tables.schema import CELL

# Packages whose versions the header names, where the table has them.
PACKAGES = ("torch", "transformers", "lm_eval", "peft", "datasets")


@dataclass(frozen=True)
class Header:
    """The header's texts."""

    study: str
    title: str
    verdict: str
    counts: Mapping[str, int]  # done, failed, missing
    facts: Mapping[str, str]  # name → value

    @property
    def is_finished(self) -> bool:
        """Return whether every cell is done."""
        return not self.counts["failed"] and not self.counts["missing"]


def header_of(facts: PageFacts) -> Header:
    """Return the header of a study's page."""
    plan = facts.plan
    status = facts.wide.drop_duplicates(list(CELL))["status"]
    counts = {"done": int((status == "ok").sum())}
    counts |= {name: int((status == name).sum()) for name in ("failed", "missing")}
    return Header(
        study=plan["study"],
        title=plan["title"] or plan["study"],
        verdict=" ".join(_sentences(facts, counts)),
        counts=counts,
        facts=dict(_facts(facts)),
    )


def _models(count: int, kind: str = "") -> str:
    return f"{count} {kind}model{'' if count == 1 else 's'}"


def _sentences(facts: PageFacts, counts: Mapping[str, int]) -> Iterator[str]:
    """Yield a sentence if dense drifted, that on what the study shows, one if not finished."""
    if drifted := drift(facts.known):
        yield drifted
    if facts.is_census:
        yield f"Exact counts of the weights of {_models(counts['done'])}."
    elif best := _best(facts):
        yield best
    else:
        yield "No pruned model has a score yet."
    lost = [f"{counts[name]} {name}" for name in ("failed", "missing") if counts[name]]
    if lost:
        total = sum(counts.values())
        yield f"This study is not finished: of {total} cells {' and '.join(lost)}."


def _best(facts: PageFacts) -> str | None:
    """Return which pruned model comes closest to dense by the first score that no text games."""
    measures = [m for m in measures_of(facts.plan, facts.tall) if m.ranks]
    measures.sort(key=lambda measure: measure.key in facts.gamed)
    cells = cells_of(facts.wide)
    for measure in measures:
        scores = scores_of(facts.plan, facts.tall, [measure.key], facts.groups)
        own = {c.key: scores.get((*c.key, *measure.key)) for c in cells}
        pruned = [c for c in cells if c.method != "dense" and own[c.key]]
        pruned = [c for c in pruned if c.place == pruned[0].place]
        if pruned and len({own[cell.key].value for cell in pruned}) > 1 or len(pruned) == 1:
            best = (max if measure.higher_is_better else min)(
                pruned, key=lambda cell: own[cell.key].value
            )
            dense = next((c for c in cells if c.is_dense and c.place == best.place), None)
            return _sentence(best, own[best.key], own.get(dense and dense.key), measure, pruned)
    return None


def _sentence(
    best: Cell, score: Score, dense: Score | None, measure: Measure, pruned: list[Cell]
) -> str:
    name = f"{display_names.recipe(best)} ({display_names.tuning_name(best).lower()})"
    value = display_names.number(score.value)
    if score.low is not None:
        low, high = display_names.number(score.low), display_names.number(score.high)
        value += f" (95% interval {between(low, high)})"
    what = display_names.measure_name(*measure.key)
    text = f"Of {_models(len(pruned), 'pruned ')}, {name} does best by {what}: {value}"
    return text + (f", dense {display_names.number(dense.value)}." if dense else ".")


def _facts(facts: PageFacts) -> Iterator[tuple[str, str]]:
    yield "prunegrid", __version__
    if "versions" in facts.wide:
        found: dict[str, set[str]] = {}
        for text in facts.wide["versions"].dropna().unique():
            for package, version in json.loads(text).items():
                found.setdefault(package, set()).add(version)
        for package in PACKAGES:
            if package in found:
                yield package, ", ".join(sorted(found[package]))
    yield "key of the table", facts.plan["key"]
    if facts.plan.get("lock"):
        yield "requirements.lock, SHA-256", facts.plan["lock"]
