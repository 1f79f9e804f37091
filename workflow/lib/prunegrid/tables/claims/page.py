"""The page of conclusions: a verdict each, with its numbers and its scope."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas

from prunegrid.common.file_io import write_text
from prunegrid.config.conclusions import Conclusion
from prunegrid.tables.claims.comparisons import Row
from prunegrid.tables.claims.verdicts import Outcome, decide, judge, speaks
from prunegrid.tables.files import place
from prunegrid.tables.finished import read
from prunegrid.tables.markdown import number, table

INTRODUCTION = """\
# Published conclusions, tested

Each verdict is on the conclusion in its own scope: the models, the data (of perplexities, the text)
and the metric that it was drawn on. What was found elsewhere stands beside it and decides nothing
there. A verdict says what these tables show, not what is true of all models.

- *holds*, *refuted*: every comparison, or one after Holm's correction, says so at 5% two-sided, by
  intervals over items and seeds together; measured times must leave a declared tolerance.
- *cannot tell*: the comparisons are there and do not decide it.
- *not tested*: nothing in these tables is in its scope."""

# Of claims.parquet, which docs/claims.md explains.
_TEXTS = ("study", "models", "dataset", "split", "metric", "a", "b", "effect")
COLUMNS = {
    **dict.fromkeys(("claim", "verdict"), "string"),
    "in_scope": "boolean",
    **dict.fromkeys(_TEXTS, "string"),
    **dict.fromkeys(("value", "low", "high", "support", "p"), "Float64"),
    **dict.fromkeys(("n", "seeds"), "Int64"),
    **dict.fromkeys(("note", "speaks"), "string"),
}


def rows(outcomes: Iterable[Outcome]) -> pandas.DataFrame:
    """Return a row a comparison; a conclusion without any has one row of its own."""
    lines = []
    for outcome in outcomes:
        about = {"claim": outcome.name, "verdict": outcome.verdict}
        inside = [one | {"speaks": speaks(one)} for one in outcome.within] or [{}]
        lines += [about | {"in_scope": True} | one for one in inside]
        for one in (one for some in outcome.elsewhere.values() for one in some):
            lines.append(about | {"in_scope": False, "speaks": speaks(one)} | one)
    return pandas.DataFrame(lines, columns=[*COLUMNS]).astype(COLUMNS)


def markdown(outcomes: Sequence[Outcome], tables: Sequence[Path]) -> str:
    """Return the page; `tables` are the studies' that were read."""
    summary = [
        (f"[{one.name}](#{one.name})", f"*{one.verdict}*", one.claim.says, _scope(one.claim))
        for one in outcomes
    ]
    frame = pandas.DataFrame(summary, columns=["conclusion", "verdict", "says", "scope"])
    studies = ", ".join(f"`{path.stem}`" for path in tables)
    parts = [INTRODUCTION, f"Studies: {studies}.", table(frame)]
    return "\n\n".join([*parts, *(part for one in outcomes for part in _section(one))]) + "\n"


def _section(outcome: Outcome) -> list[str]:
    claim = outcome.claim
    who = "every comparison" if claim.quantifier == "all" else "at least one comparison"
    text = f"**{outcome.verdict}.** {claim.says} Drawn by {claim.source}. "
    parts = [f"## {outcome.name}", f"{text}Scope: {_scope(claim)}; {who} must bear it out."]
    if outcome.within:
        parts.append(table(pandas.DataFrame([_line(one) for one in outcome.within])))
    for (models, dataset, split, metric), some in outcome.elsewhere.items():
        votes = [speaks(one) for one in some]
        text = f"{len(some)} comparison(s)"
        text += "".join(f", {votes.count(vote)} {vote}" for vote in ("for", "against"))
        if len(some) == 1:
            text += "; {a} against {b}: {effect} {95% interval}".format(**_line(*some)).rstrip()
            text += f"; {some[0]['note']}" if some[0]["note"] else ""
        where = f"{models} / {f'{dataset} {split}'.rstrip()} by {metric}"
        parts.append(f"On {where}: *{decide(some, claim.quantifier)}* ({text}).")
    return parts


def _line(one: Row) -> Row:
    ends = [number(one.get(end), "z.4g") for end in ("low", "high")]
    return {
        "study": one["study"],
        "model": one["models"],
        "data": f"{one['dataset']} {one['split']}".rstrip(),
        **{name: one[name] for name in ("metric", "a", "b")},
        "effect": f"{one['effect']} {one['value']:z.4g}",
        "95% interval": " … ".join(ends) if all(ends) else "",
        "n": number(one.get("n"), ".0f"),
        "seeds": one["seeds"],
        "p": f"{one['p']:.3g}",
        "speaks": speaks(one) + (f" ({one['note']})" if one["note"] else ""),
    }


def _scope(claim: Conclusion) -> str:
    shown = {key: "/".join(names) for key, names in claim.scope.model_dump().items()}
    text = f"{shown['model']}; {shown['dataset'].replace('*', 'any data')}; {shown['metric']}"
    text += "" if "*" in claim.scope.split else f" of {shown['split']}"
    return text + ("" if "*" in claim.scope.study else f"; in {shown['study']}")


def write(tables: Sequence[Path], folder: Path, claims: Mapping[str, Conclusion]) -> list[Outcome]:
    """Write `claims.md` and `claims.parquet` below `folder`; return the outcomes.

    Raises:
        PrunegridError: there is no table, or one is missing, damaged or of another version.
    """
    outcomes = judge(read(tables), claims)
    folder.mkdir(parents=True, exist_ok=True)
    place(folder / "claims.parquet", lambda path: rows(outcomes).to_parquet(path, index=False))
    write_text(folder / "claims.md", markdown(outcomes, tables))
    return outcomes
