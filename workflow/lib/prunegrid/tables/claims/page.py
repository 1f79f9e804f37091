"""The page of conclusions: a verdict each, with its numbers and its scope."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas
from tabulate import tabulate

from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import read_json, write_text
from prunegrid.tables.claims.catalog import CLAIMS
from prunegrid.tables.claims.claim import QUALITY, Claim
from prunegrid.tables.claims.evidence import Comparison, decide
from prunegrid.tables.claims.kinds import KINDS
from prunegrid.tables.claims.scopes import SOURCES
from prunegrid.tables.claims.table_reader import Finished, named, read
from prunegrid.tables.files import place

INTRODUCTION = """\
# Published conclusions, tested

Each verdict is on the conclusion in its own scope: the models, the data (of perplexities, the text)
and the metric that it was drawn on. What was found elsewhere stands beside it and decides nothing
there. A verdict says what these tables show, not what is true of all models.

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
        elsewhere: (models, dataset, split, metric) → those of another scope.
    """

    claim: Claim
    within: list[Comparison]
    elsewhere: dict[tuple[str, str, str, str], list[Comparison]]

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
                models, split = " and ".join(comparison.models), comparison.split
                where = (models, comparison.dataset, split, comparison.metric)
                outcome.elsewhere.setdefault(where, []).append(comparison)
        found.append(outcome)
    return found


def _within(claim: Claim, comparison: Comparison) -> bool:
    return (
        all(named(model, claim.models) for model in comparison.models)
        and named(comparison.dataset, claim.datasets)
        and named(comparison.split, claim.splits)
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


def markdown(
    outcomes: Sequence[Outcome], tables: Sequence[Path], config: Mapping[str, Collection[str]]
) -> str:
    """Return the page.

    Args:
        tables: the studies' tables that were read.
        config: the shipped config's sections, each with the names of its profiles.
    """
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
        parts += _section(outcome, config)
    return "\n\n".join(parts) + "\n"


def _section(outcome: Outcome, config: Mapping[str, Collection[str]]) -> list[str]:
    claim = outcome.claim
    who = "every comparison" if claim.quantifier == "all" else "at least one comparison"
    text = f"**{outcome.verdict}.** {claim.says} Drawn by {SOURCES[claim.seen]}. "
    text += f"Scope: {_scope(claim)}; {who} must bear it out."
    parts = [f"## {claim.name}", text]
    if outcome.within:
        parts.append(_table([_line(one) for one in outcome.within]))
    elif lacking := absent(claim, config):
        parts.append(f"Of its scope the shipped config has no {', no '.join(lacking)}.")
    for (models, dataset, split, metric), some in outcome.elsewhere.items():
        verdict = decide(some, claim.quantifier)
        votes = [one.speaks for one in some]
        count = f"{votes.count('for')} for, {votes.count('against')} against"
        notes = [f"{len(some)} comparison(s), {count}", *_first(some)]
        data = f"{dataset} {split}".rstrip()
        parts.append(f"On {models} / {data} by {metric}: *{verdict}* ({'; '.join(notes)}).")
    return parts


def absent(claim: Claim, config: Mapping[str, Collection[str]]) -> list[str]:
    """Return what a claim's scope names and a config has no profile of: "model gpt2-xl"."""
    scopes = {"model": claim.models, "dataset": claim.datasets}
    if set(claim.splits) != {"*"}:
        scopes["evaluation"] = claim.splits
    return [
        f"{kind} {name}"
        for kind, names in scopes.items()
        for name in names
        if name != "*" and name not in config[f"{kind}s"]
    ]


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
    texts = "" if "*" in claim.splits else f" of {'/'.join(claim.splits)}"
    return f"{models}; {data.replace('*', 'any data')}; {'/'.join(claim.metrics)}{texts}"


def _table(lines: Sequence[dict[str, Any]]) -> str:
    frame = pandas.DataFrame(lines)
    return tabulate(
        frame, headers="keys", tablefmt="github", showindex=False, disable_numparse=True
    )


def find(folder: Path) -> list[Path]:
    """Return the finished studies' tables of a folder, by name; those of censuses claim nothing."""
    tables = [path for path in sorted(folder.glob("*.parquet")) if "." not in path.stem]
    return [path for path in tables if path.stem != "claims" and not _is_census(path)]


def _is_census(table: Path) -> bool:
    manifest = table.with_suffix(".manifest.json")
    return manifest.exists() and read_json(manifest).get("plan", {}).get("kind") == "census"


def write(
    tables: Sequence[Path], folder: Path, config: Mapping[str, Collection[str]]
) -> list[Outcome]:
    """Write `claims.md` and `claims.parquet` below `folder`; return what came out.

    Args:
        tables: of finished studies.
        config: the shipped config's sections, each with the names of its profiles.

    Raises:
        PrunegridError: a table is missing or of another version.
    """
    if not tables:
        raise PrunegridError(
            "there is no finished table", where=str(folder), remedy="run a study first"
        )
    outcomes = judge(read(tables))
    folder.mkdir(parents=True, exist_ok=True)
    frame = rows(outcomes)
    place(folder / "claims.parquet", lambda path: frame.to_parquet(path, index=False))
    write_text(folder / "claims.md", markdown(outcomes, tables, config))
    return outcomes
