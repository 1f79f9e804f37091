"""The page of conclusions: a verdict each, with its numbers and its scope."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas
from tabulate import tabulate

from prunegrid.artifacts import write_text
from prunegrid.claims.catalog import CLAIMS
from prunegrid.claims.claim import QUALITY, SOURCES, Claim
from prunegrid.claims.evidence import Comparison, decide
from prunegrid.claims.finished import Finished, named, read
from prunegrid.claims.kinds import KINDS
from prunegrid.errors import PrunegridError

INTRODUCTION = """\
# Published conclusions, tested

Each verdict is on the conclusion in its own scope: the models, the data and the metric that it was
drawn on. What was found elsewhere stands beside it and decides nothing there. A verdict says what
these tables show, not what is true of all models.

- *holds*, *refuted*: every comparison, or one after Holm's correction, says so at 5% two-sided, by
  intervals over items and seeds together; measured times must leave a declared tolerance.
- *cannot tell*: the comparisons are there and do not decide it.
- *not tested*: nothing in these tables is in its scope.
"""


@dataclass(frozen=True)
class Outcome:
    """What came out of one conclusion.

    Attributes:
        within: the comparisons of its scope, which decide it.
        elsewhere: (models, dataset, metric) → those of another scope.
    """

    claim: Claim
    within: list[Comparison]
    elsewhere: dict[tuple[str, str, str], list[Comparison]]

    @property
    def verdict(self) -> str:
        """holds, refuted, cannot tell or not tested."""
        return decide(self.within, self.claim.quantifier)


def judge(tables: Finished, claims: Iterable[Claim] = CLAIMS) -> list[Outcome]:
    """Return what finished tables say about each conclusion."""
    found = []
    for claim in claims:
        outcome = Outcome(claim, [], {})
        metrics = (*claim.metrics, *QUALITY)
        for comparison in KINDS[claim.kind](claim.settings, metrics, tables):
            if _within(claim, comparison):
                outcome.within.append(comparison)
            else:
                place = (" and ".join(comparison.models), comparison.dataset, comparison.metric)
                outcome.elsewhere.setdefault(place, []).append(comparison)
        found.append(outcome)
    return found


def _within(claim: Claim, comparison: Comparison) -> bool:
    return (
        all(named(model, claim.models) for model in comparison.models)
        and named(comparison.dataset, claim.datasets)
        and named(comparison.metric, claim.metrics)
    )


def rows(outcomes: Iterable[Outcome]) -> pandas.DataFrame:
    """Return a row a comparison; a conclusion without any has one row of its own."""
    made: list[dict[str, Any]] = []
    for outcome in outcomes:
        about = {"claim": outcome.claim.name, "verdict": outcome.verdict}
        groups = [(True, outcome.within), *((False, c) for c in outcome.elsewhere.values())]
        lines = [
            {**about, "in_scope": inside, **asdict(one), "speaks": one.speaks}
            for inside, some in groups
            for one in some
        ]
        if not outcome.within:
            lines.insert(0, {**about, "in_scope": True})
        made += lines
    frame = pandas.DataFrame(made, columns=[*_TYPES])
    frame["models"] = [
        " and ".join(models) if isinstance(models, tuple) else None for models in frame["models"]
    ]
    return frame.astype(_TYPES)


_TYPES = {
    **dict.fromkeys(("claim", "verdict"), "string"),
    "in_scope": "boolean",
    **dict.fromkeys(
        ("study", "models", "dataset", "split", "metric", "a", "b", "effect"), "string"
    ),
    **dict.fromkeys(("value", "low", "high", "support", "p"), "Float64"),
    **dict.fromkeys(("n", "seeds"), "Int64"),
    **dict.fromkeys(("note", "speaks"), "string"),
}


def markdown(outcomes: Sequence[Outcome], tables: Sequence[Path]) -> str:
    """Return the page."""
    studies = ", ".join(f"`{path.name.removesuffix('.parquet')}`" for path in tables)
    summary = [
        {
            "conclusion": f"[{o.claim.name}](#{o.claim.name})",
            "verdict": f"*{o.verdict}*",
            "says": o.claim.says,
            "scope": _scope(o.claim),
        }
        for o in outcomes
    ]
    parts = [INTRODUCTION.rstrip(), f"Studies: {studies}.", _table(summary)]
    for outcome in outcomes:
        parts += _section(outcome)
    return "\n\n".join(parts) + "\n"


def _section(outcome: Outcome) -> list[str]:
    claim = outcome.claim
    who = "every comparison" if claim.quantifier == "all" else "at least one comparison"
    text = f"**{outcome.verdict}.** {claim.says} Drawn by {SOURCES[claim.seen]}. "
    text += f"Scope: {_scope(claim)}; {who} must bear it out."
    parts = [f"## {claim.name}", text]
    if outcome.within:
        parts.append(_table([_line(one) for one in outcome.within]))
    for place, some in outcome.elsewhere.items():
        models, dataset, metric = place
        verdict = decide(some, claim.quantifier)
        votes = [one.speaks for one in some]
        count = f"{votes.count('for')} for, {votes.count('against')} against"
        notes = [f"{len(some)} comparison(s), {count}", *_first(some)]
        parts.append(f"On {models} / {dataset} by {metric}: *{verdict}* ({'; '.join(notes)}).")
    return parts


def _first(some: Sequence[Comparison]) -> list[str]:
    """Return the comparison in words where there is but one."""
    if len(some) != 1:
        return []
    line = _line(some[0])
    text = f"{line['a']} against {line['b']}: {line['effect']} {line['95% interval']}".rstrip()
    return [text, some[0].note] if some[0].note else [text]


def _line(one: Comparison) -> dict[str, Any]:
    # Adding zero turns -0 into 0.
    bounds = (
        "" if one.low is None or one.high is None else f"{one.low + 0:.4g} … {one.high + 0:.4g}"
    )
    return {
        "study": one.study,
        "model": " and ".join(one.models),
        "data": " ".join(part for part in (one.dataset, one.split) if part),
        "metric": one.metric,
        "a": one.a,
        "b": one.b,
        "effect": f"{one.effect} {one.value + 0:.4g}",
        "95% interval": bounds,
        "n": "" if one.n is None else one.n,
        "seeds": "" if one.seeds is None else one.seeds,
        "p": f"{one.p:.3g}",
        "speaks": one.speaks + (f" ({one.note})" if one.note else ""),
    }


def _scope(claim: Claim) -> str:
    models, data = "/".join(claim.models), "/".join(claim.datasets)
    return f"{models}; {data.replace('*', 'any data')}; {'/'.join(claim.metrics)}"


def _table(lines: Sequence[dict[str, Any]]) -> str:
    frame = pandas.DataFrame(lines)
    return tabulate(
        frame, headers="keys", tablefmt="github", showindex=False, disable_numparse=True
    )


def find(folder: Path) -> list[Path]:
    """Return the finished studies' tables of a folder, by name."""
    tables = [path for path in sorted(folder.glob("*.parquet")) if "." not in path.stem]
    return [path for path in tables if path.stem != "claims"]


def write(tables: Sequence[Path], folder: Path) -> list[Outcome]:
    """Write `claims.md` and `claims.parquet` below `folder`; return what came out.

    Raises:
        PrunegridError: a table is missing or of another version.
    """
    if not tables:
        raise PrunegridError(
            "there is no finished table", where=str(folder), remedy="run a study first"
        )
    outcomes = judge(read(tables))
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".claims.parquet.{os.getpid()}.tmp"
    try:
        rows(outcomes).to_parquet(aside, index=False)
        os.replace(aside, folder / "claims.parquet")
    finally:
        aside.unlink(missing_ok=True)
    write_text(folder / "claims.md", markdown(outcomes, tables))
    return outcomes
