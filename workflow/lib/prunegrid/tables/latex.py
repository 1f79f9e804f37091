r"""A table as LaTeX: scores with their intervals, and the verdicts of its contrasts as marks.

The text is a `table` to be taken by `\input` into a paper that loads `booktabs`. Every text of the
study is escaped, so a name with `_` or `%` compiles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import Any

import pandas

from prunegrid.tables.headline import Measure, measures_of
from prunegrid.tables.intervals import scores_at_chance, scores_where
from prunegrid.tables.markdown import between, number
from prunegrid.tables.near_dense import WORDS
from prunegrid.tables.schema import Plan, Row, cell_key, cell_title

SIDE = ("model", "dataset", "prune", "finetune")  # a contrast's side by its title
_KEYS = {"model": "model", "dataset": "data", "prune": "pruned", "finetune": "tuned"}
_KEYS |= {"seed": "seed", "weight_precision": "weights"}
_SIGNS = {"better": "+", "worse": "-", "non-inferior": r"\geq"}
# A bracket or star at the beginning of a row would be taken for an argument of the line break.
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{mark: f"{{{mark}}}" for mark in '[]*"'},
}


def escape(text: Any) -> str:
    """Return a text in one line in which no character is a command of LaTeX."""
    return "".join(_ESCAPES.get(mark, mark) for mark in " ".join(str(text).split()))


def render_latex(
    plan: Plan, wide: pandas.DataFrame, tall: pandas.DataFrame, contrasts: Sequence[Row] = ()
) -> str:
    """Return the study's table: a row a cell, a column a measure of its figure, and notes."""
    measures = measures_of(plan, tall)
    keys = [key for key in _KEYS if key in ("prune", "finetune") or wide[key].nunique() > 1]
    heads = [escape(_KEYS[key]) for key in keys] + ["zeros"] + [_head(one) for one in measures]
    letters = dict(zip((row["contrast"] for row in contrasts), ascii_lowercase, strict=False))
    entries = tall[tall["kind"] == "cell"].to_dict("records")
    scores = {(*cell_key(one), one["split"], one["metric"]): one for one in entries}
    lines = []
    for _, row in wide.iterrows():
        line = [escape("" if pandas.isna(row[key]) else row[key]) for key in keys]
        line.append(_zeros(row) if row["status"] == "ok" else escape(row["status"]))
        for measure in measures:
            marks = _marks(row, measure, contrasts, letters)
            line.append(_score(scores.get((*cell_key(row), *measure.key)), measure, marks))
        lines.append(" & ".join(line) + r" \\")
    columns = f"{'l' * len(keys)}r{'l' * len(measures)}"
    return booktabs(plan, columns, heads, lines, _notes(wide, tall, contrasts, letters))


def booktabs(
    plan: Plan, columns: str, heads: Sequence[str], lines: Sequence[str], notes: Sequence[str]
) -> str:
    """Return a `table` of the package booktabs, with the study's title and notes below it.

    Args:
        columns: how they are aligned, a letter each.
        heads, lines, notes: escaped; each line with its end.
    """
    title, label = escape(plan["title"] or plan["study"]), plan["study"].replace("_", "-")
    return "\n".join(
        [
            r"% The preamble of the paper needs \usepackage{booktabs}.",
            *(r"\begin{table}", r"\centering", rf"\caption{{{title}}}"),
            *(rf"\label{{tab:{label}}}", r"\small"),
            rf"\begin{{tabular}}{{{columns}}}",
            *(r"\toprule", " & ".join(heads) + r" \\", r"\midrule", *lines, r"\bottomrule"),
            *(r"\end{tabular}", "", rf"\par\smallskip\raggedright\footnotesize {' '.join(notes)}"),
            r"\end{table}" + "\n",
        ]
    )


def _head(measure: Measure) -> str:
    """Return a column's head: the measure, and which way is better."""
    arrow = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}[measure.higher_is_better]
    return (
        escape(f"{measure.split} {'perplexity' if measure.wants_log else measure.metric}") + arrow
    )


def _zeros(row: Row) -> str:
    """Return the measured share of zeros; of a model that lost whole units, the share gone too."""
    gone = number(row["removed_prunable"], ".1%")
    texts = [number(row["sparsity_effective"], ".1%"), f"{gone} removed" if gone else ""]
    return escape(", ".join(filter(None, texts)))


def _marks(
    row: Row, measure: Measure, contrasts: Sequence[Row], letters: Mapping[str, str]
) -> list[str]:
    """Return a mark for each contrast of a measure whose first side is the row's cell."""
    return [
        letters[one["contrast"]] + _SIGNS.get(one["verdict"], r"\approx")
        for one in contrasts
        if one["contrast"] in letters and one["reason"] is None
        if (one["split"], one["metric"]) == measure.key and one["a"] == cell_title(row, SIDE)
    ]


def _score(score: Row | None, measure: Measure, marks: Sequence[str]) -> str:
    """Return a score with its 95% interval and marks; a dash for none."""
    if score is None or pandas.isna(score["value"]):
        return "--"
    form = ".2f" if measure.wants_log else ".3f"
    value, low, high = (number(score[name], form) for name in ("value", "low", "high"))
    marks = [*marks, r"\dagger"] if score["at_chance"] is True else marks
    marks = [*marks, r"\simeq"] if score["near_dense"] is True else marks
    interval = rf" {{\scriptsize ({_between(low, high)})}}" if low else ""
    return value + interval + (f"$^{{{','.join(marks)}}}$" if marks else "")


def _between(low: str, high: str) -> str:
    """Return the ends of an interval, the dash as LaTeX writes it."""
    return between(low, high).replace("–", "--")


def _notes(
    wide: pandas.DataFrame,
    tall: pandas.DataFrame,
    contrasts: Sequence[Row],
    letters: Mapping[str, str],
) -> list[str]:
    """Return the sentences below the table."""
    notes = [r"In parentheses: 95\% intervals, bootstrapped over items."]
    if letters:
        notes.append(
            r"Marks: the row against another one (paired sign flips over items, Holm-corrected, "
            r"two-sided 5\%): $+$ better, $-$ worse, $\geq$ non-inferior, $\approx$ no verdict."
        )
    for row in (row for row in contrasts if row["contrast"] in letters):
        said = row["verdict"] if row["reason"] is None else f"not compared ({row['reason']})"
        value, low, high = (number(row[name], ".3f") for name in ("value", "low", "high"))
        size = f", {row['effect']} {value} ({_between(low, high)})" if low else ""
        text = escape(f"{row['contrast']}, against {row['b'] or 'none'}: {said}{size}.")
        notes.append(f"$^{{{letters[row['contrast']]}}}$ {text}")
    notes += [r"$^{\dagger}$ not distinguishable from chance."] if scores_at_chance(tall) else []
    if scores_where(tall, "near_dense"):
        notes.append(rf"$^{{\simeq}}$ {escape(WORDS)}.")
    lost = int((wide["status"] != "ok").sum())
    return notes + ([f"{lost} of {len(wide)} cells have no scores."] if lost else [])
