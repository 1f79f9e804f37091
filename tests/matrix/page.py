"""The matrix as files: `results.json`, and `docs/reference/matrix.md` made from it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tests.matrix.columns import COLUMNS
from tests.matrix.runner import Cells
from tests.matrix.subjects import read_models
from tests.matrix.verdicts import FAULT, REFUSED, UNTRIED, VERIFIED

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "reference" / "matrix.md"
# The largest share of cells that may be untried.
MOST_UNTRIED = 0.1
GROUPS = {"causal-lm": "Decoders", "seq2seq-lm": "Encoder-decoders", "masked-lm": "Encoders"}

HEAD = """\
# The matrix: which architecture passes which step

Each row is a small model of one config of transformers, with random weights. Each column is a step
of the pipeline. `make matrix` writes this page again; for each commit
`make test-matrix` runs a tenth of it.

| mark | meaning |
|---|---|
| ✓ | *verified*: the step ran, and what it wrote is what an independent computation gives |
| – *n* | *refused because*: the library says early that it does not do this; *n* is the reason |
| **F** *n* | *fault*: the result is wrong, or the step ends in an error that is no clear refusal |
| · | *not tried*: an earlier fault left nothing to try it on |

The independent computation (`tests/matrix/oracle.py`) is plain torch, transformers and safetensors.
It shares no code with the library. For every step that writes weights it compares the digest and
the exact counts of the record, and reads the folder in plain transformers. Beside that it compares:
"""
TAIL = """\

Fused experts (one tensor for all experts of a layer) count as a linear for each expert. The oracle
runs them in a loop of its own; an expert that no token reaches counts as one whose inputs are all
alike. Routers stay dense.

An architecture that is not on this page runs behind the same guards: its blocks are found by
structure, counts and digests are compared after every step, and what is not understood is refused.
Nothing else is known about it.
"""


def write_results(results: dict[str, Cells], path: Path = RESULTS) -> None:
    """Write the results, a line a model: step → number of its verdict and reason.

    Verified cells are left out.
    """
    reasons: dict[tuple[str, str], int] = {}
    lines = []
    for name in (name for name in read_models() if name in results):
        cells = {
            step: reasons.setdefault(tuple(results[name][step]), len(reasons))
            for step in COLUMNS
            if results[name][step][0] != VERIFIED
        }
        lines.append(f"  {json.dumps(name)}: {json.dumps(cells)}")
    listed = [f"  {json.dumps(list(reason), ensure_ascii=False)}" for reason in reasons]
    parts = {"reasons": ("[", listed, "]"), "models": ("{", lines, "}")}
    text = f'{{"steps": {json.dumps(list(COLUMNS))}'
    for key, (opening, body, closing) in parts.items():
        joined = ",\n".join(body)
        text += f',\n"{key}": {opening}\n{joined}\n{closing}'
    path.write_text(text + "\n}\n", encoding="utf-8")


def read_results(path: Path = RESULTS) -> dict[str, Cells]:
    """Return name → step → (verdict, reason) of a file."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    reasons = [tuple(reason) for reason in facts["reasons"]]
    return {
        name: {
            step: reasons[cells[step]] if step in cells else (VERIFIED, "")
            for step in facts["steps"]
        }
        for name, cells in facts["models"].items()
    }


def count(results: dict[str, Cells]) -> Counter:
    """Return how many cells have each verdict."""
    return Counter(verdict for cells in results.values() for verdict, _ in cells.values())


def too_many_untried(results: dict[str, Cells]) -> bool:
    """Return whether more than a tenth of all cells was not tried."""
    counts = count(results)
    return counts[UNTRIED] > MOST_UNTRIED * counts.total()


def render(results: dict[str, Cells]) -> str:
    """Return the page of some results."""
    notes: dict[tuple[str, str], int] = {}
    parts = [HEAD]
    parts += [f"- **{', '.join(titles)}.** {says}" for says, titles in sentences().items()]
    parts += [TAIL, totals(results)]
    models = read_models()
    for task, title in GROUPS.items():
        names = [name for name in results if models[name]["task"] == task]
        if names:
            parts += ["", f"## {title}", "", *table(names, results, notes)]
    for verdict, title in ((REFUSED, "Reasons of refusals"), (FAULT, "Faults")):
        listed = [(number, reason) for (kind, reason), number in notes.items() if kind == verdict]
        parts += ["", f"## {title}", ""] + [f"{n}. {quoted(reason)}" for n, reason in listed]
    return "\n".join(parts) + "\n"


def totals(results: dict[str, Cells]) -> str:
    """Return the sentence and the table of counts, by step."""
    counts = count(results)
    verdicts = (VERIFIED, REFUSED, FAULT, UNTRIED)
    lines = [
        f"{len(results)} configs, {counts.total()} cells: {counts[VERIFIED]} verified, "
        f"{counts[REFUSED]} refused, {counts[FAULT]} faults, {counts[UNTRIED]} not tried.",
        "",
        "| step | verified | refused | faults | not tried |",
        "|---|---|---|---|---|",
    ]
    for step, column in COLUMNS.items():
        found = Counter(cells[step][0] for cells in results.values())
        lines.append(f"| {column.title} | " + " | ".join(str(found[v]) for v in verdicts) + " |")
    return "\n".join(lines)


def table(names: list[str], results: dict[str, Cells], notes: dict) -> list[str]:
    """Return the lines of a table, and number the reasons in `notes`."""
    titles = [column.title for column in COLUMNS.values()]
    lines = [f"| config | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for name in names:
        marks = [mark(results[name][step], notes) for step in COLUMNS]
        lines.append(f"| {name} | {' | '.join(marks)} |")
    return lines


def mark(cell: tuple[str, str], notes: dict[tuple[str, str], int]) -> str:
    """Return the mark of one cell."""
    verdict, _ = cell
    if verdict in (VERIFIED, UNTRIED):
        return "✓" if verdict == VERIFIED else "·"
    of_kind = sum(kind == verdict for kind, _ in notes)
    number = notes.setdefault(cell, of_kind + 1)
    return f"– {number}" if verdict == REFUSED else f"**F** {number}"


def quoted(reason: str) -> str:
    """Return a reason as code, so that no sign of it is taken for Markdown."""
    return f"`{reason.replace('`', chr(39))}`"


def sentences() -> dict[str, list[str]]:
    """Return what *verified* means → the titles of the columns that it is said of."""
    said: dict[str, list[str]] = {}
    for column in COLUMNS.values():
        said.setdefault(column.says, []).append(column.title)
    return said
