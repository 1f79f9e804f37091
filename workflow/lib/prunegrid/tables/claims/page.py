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
from prunegrid.tables.markdown import between, number, table

INTRODUCTION = """\
# Published conclusions, tested

Each verdict is on the conclusion in its own scope: the models, the data (of perplexities, the text)
and the metric that it was drawn on. What was found elsewhere stands beside it and decides nothing
there. A verdict says what these tables show, not what is true of all models.

- *holds*, *refuted*: every comparison, or one after Holm's correction, says so at 5% two-sided, by
  intervals over items and seeds together; measured times must leave a declared tolerance.
- *cannot tell*: the comparisons are there and do not decide it.
- *not tested*: nothing in these tables is in its scope."""

# Of claims.parquet, which docs/reference/claims.md explains.
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
        elsewhere = [row for group in outcome.elsewhere.values() for row in group]
        lines += [about | {"in_scope": True} | _spoken(row) for row in outcome.within or [{}]]
        lines += [about | {"in_scope": False} | _spoken(row) for row in elsewhere]
    return pandas.DataFrame(lines, columns=[*COLUMNS]).astype(COLUMNS)


def _spoken(row: Row) -> Row:
    """Return a comparison with the side that it speaks for, if there is one."""
    return row | {"speaks": speaks(row)} if row else row


def markdown(outcomes: Sequence[Outcome], tables: Sequence[Path]) -> str:
    """Return the page; `tables` are the studies' that were read."""
    summary = [
        (f"[{o.name}](#{o.name})", f"*{o.verdict}*", o.claim.says, _scope(o.claim))
        for o in outcomes
    ]
    frame = pandas.DataFrame(summary, columns=["conclusion", "verdict", "says", "scope"])
    studies = ", ".join(f"`{path.stem}`" for path in tables)
    parts = [INTRODUCTION, f"Studies: {studies}.", table(frame)]
    parts += [part for outcome in outcomes for part in _section(outcome)]
    return "\n\n".join(parts) + "\n"


def _section(outcome: Outcome) -> list[str]:
    claim = outcome.claim
    who = "every comparison" if claim.quantifier == "all" else "at least one comparison"
    text = f"**{outcome.verdict}.** {claim.says} Drawn by {claim.source}. "
    parts = [f"## {outcome.name}", f"{text}Scope: {_scope(claim)}; {who} must bear it out."]
    if outcome.within:
        parts.append(table(pandas.DataFrame([_line(row) for row in outcome.within])))
    for (models, dataset, split, metric), comparisons in outcome.elsewhere.items():
        votes = [speaks(row) for row in comparisons]
        text = f"{len(comparisons)} comparison(s)"
        text += "".join(f", {votes.count(vote)} {vote}" for vote in ("for", "against"))
        if len(comparisons) == 1:
            line = "{a} against {b}: {effect} {95% interval}".format(**_line(*comparisons))
            text += f"; {line.rstrip()}"
            text += f"; {comparisons[0]['note']}" if comparisons[0]["note"] else ""
        where = f"{models} / {f'{dataset} {split}'.rstrip()} by {metric}"
        parts.append(f"On {where}: *{decide(comparisons, claim.quantifier)}* ({text}).")
    return parts


def _line(row: Row) -> Row:
    ends = [number(row.get(end), "z.4g") for end in ("low", "high")]
    return {
        "study": row["study"],
        "model": row["models"],
        "data": f"{row['dataset']} {row['split']}".rstrip(),
        **{name: row[name] for name in ("metric", "a", "b")},
        "effect": f"{row['effect']} {row['value']:z.4g}",
        "95% interval": between(*ends) if all(ends) else "",
        "n": number(row.get("n"), ".0f"),
        "seeds": row["seeds"],
        "p": f"{row['p']:.3g}",
        "speaks": speaks(row) + (f" ({row['note']})" if row["note"] else ""),
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
