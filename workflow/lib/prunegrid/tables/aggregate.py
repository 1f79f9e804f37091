"""A study's table: rows from manifests, written as Parquet, CSV, Markdown, a figure and a page."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from prunegrid.artifacts.artifact_folder import MANIFEST, contents
from prunegrid.common.errors import PrunegridError
from prunegrid.tables import dense_at_chance, examples, schema
from prunegrid.tables.cliffs import cliff_rows, rising
from prunegrid.tables.compared import drift, known_values
from prunegrid.tables.contrasts import contrast_rows
from prunegrid.tables.controls import control_rows, flag
from prunegrid.tables.copies import copied_rows
from prunegrid.tables.files import typed_frame, write_table
from prunegrid.tables.groups import collect, pair_rows
from prunegrid.tables.headline import is_perplexity
from prunegrid.tables.latex import render_latex
from prunegrid.tables.page import assembly
from prunegrid.tables.page.part import PageFacts
from prunegrid.tables.plot import draw_study, save
from prunegrid.tables.render import render_markdown
from prunegrid.tables.schema import Plan
from prunegrid.tables.table_rows import baseline_rows, cell_rows, retokenized

log = logging.getLogger("prunegrid")


def aggregate(plan: Plan, folder: Path = Path("results")) -> bool:
    """Write a study's table files below `folder`; return whether all is in it and as expected.

    Raises:
        ValueError: two cells have the same key columns.
    """
    rows, long = _cells(plan)
    unranked = dense_at_chance.mark(long)
    control_scores, whole, notes = _controls(plan)
    long += control_scores
    groups = collect(plan, rows)
    compared = control_rows(plan, groups, long)
    wide, tall = typed_frame(rows, schema.COLUMNS), typed_frame(flag(long, compared), schema.LONG)
    controls = typed_frame(compared, schema.CONTROLS)
    copies, alike = copied_rows(rows, _perplexities(long))
    known = known_values(plan, wide)
    has_drifted = drift(known) is not None
    contrasts = contrast_rows(plan, rows, tall, has_drifted)
    cliffs = cliff_rows(plan, rows, tall, has_drifted)
    faults = [*copies, *dict.fromkeys(row["reason"] for row in contrasts if row["reason"])]
    faults += [f"{row['cells']}: {row['column']}: {row['fault']}" for row in known if row["fault"]]
    for fault in faults:
        log.error("%s", fault)
    complete = not faults and not notes and all(row["status"] == "ok" for row in rows)
    scored = examples.collect({**plan, "baselines": whole}, rows)
    doubts = unranked + copies + alike + rising(cliffs) + retokenized(rows)
    declared = {"expected": known, "contrasts": contrasts, "cliffs": cliffs, "controls": controls}
    text = render_markdown(plan, wide, tall, groups=groups, notes=notes, doubts=doubts, **declared)
    frames = {
        "": wide,
        "long.": tall,
        "pairs.": typed_frame(pair_rows(plan, groups), schema.PAIRS),
        "contrasts.": typed_frame(contrasts, schema.CONTRASTS),
        "controls.": controls,
        "examples.": typed_frame(examples.example_rows(plan, scored), schema.EXAMPLES),
        "cliffs.": typed_frame(cliffs, schema.CLIFFS),
    }
    figure = draw_study(plan, wide, tall, frames["cliffs."], groups)
    figures = {
        form: lambda path, form=form: save(figure, path, form, plan["study"])
        for form in ("png", "svg")
    }
    about = PageFacts(plan, wide, tall, frames, groups, known, notes, scored, folder)
    pages = {"md": text, "examples.md": examples.render(plan, scored)}
    pages |= {"tex": render_latex(plan, wide, tall, contrasts), "html": assembly.page(about)}
    facts = {"version": schema.SCHEMA_VERSION, "complete": complete, "leaves": contents_read(plan)}
    write_table(plan, frames, pages, figures, folder=folder, **facts)
    return complete


def _cells(plan: Plan) -> tuple[list[dict], list[dict]]:
    """Return the rows of the cells and their long rows."""
    rows, long = [], []
    for cell in plan["cells"]:
        row, entries = cell_rows(plan, cell)
        rows.append(row)
        long += entries
        log.info("%s: %s", schema.cell_title(row), row["reason"] or row["status"])
    unique_key(rows)
    return rows, long


def _controls(plan: Plan) -> tuple[list[dict], list[dict], list[str]]:
    """Return the long rows of the controls, the controls that are whole, and why others are not."""
    long, whole, notes = [], [], []
    for control in plan["baselines"]:
        try:
            long += baseline_rows(plan, control)
            whole.append(control)
        except PrunegridError as error:
            notes.append(f"control {control['baseline']} ({control['split']}): {error}")
            log.warning("%s", notes[-1])
    return long, whole, notes


def _perplexities(long: list[dict]) -> list[str]:
    """Return the names of the columns that hold perplexities."""
    named = (f"{row['split']}_{row['metric']}" for row in long if is_perplexity(row["metric"]))
    return list(dict.fromkeys(named))


def contents_read(plan: Plan) -> dict[str, str]:
    """Return {manifest: content} of every artifact that rows were read from."""
    refs = [control["scores"] for control in plan["baselines"]]
    for cell in plan["cells"]:
        refs += [ref for pair in cell["texts"].values() for ref in pair.values()]
        refs += [*cell["perplexities"].values(), *cell["tasks"].values()]
        refs += [cell["efficiency"]] if cell["efficiency"] else []
    return contents(Path(ref["path"], MANIFEST) for ref in refs)


def unique_key(rows: list[dict]) -> None:
    """Check that no two rows share their key columns.

    Raises:
        ValueError: two do.
    """
    counts = Counter(tuple(row.get(column.name) for column in schema.KEYS) for row in rows)
    for key, count in counts.items():
        if count > 1:
            raise ValueError(f"two rows have the key {key}")
