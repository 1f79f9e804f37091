"""The figure of a study: lines along a sweep, a row a cell elsewhere; data first, then drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas

from prunegrid.tables.figures import display_names, sheet
from prunegrid.tables.figures.cliff_lines import cliff_plot
from prunegrid.tables.figures.dots import DotPlot, dot_plot
from prunegrid.tables.figures.draw_dots import dot_blocks
from prunegrid.tables.figures.draw_lines import line_blocks
from prunegrid.tables.figures.lines import LinePlot, line_plot
from prunegrid.tables.figures.points import cells_of, scores_of
from prunegrid.tables.figures.sweeps import sweeps_of
from prunegrid.tables.groups import Group
from prunegrid.tables.headline import measures_of
from prunegrid.tables.schema import Plan

save = sheet.save
_BAR = "Bar: its 95% interval over them."
_SEEDS = "Cells of several seeds: the mean over seeds, and each seed as a small dot."
_BAND = "Grey band: the dense model, untouched, with its interval."
_LINE = "Grey line: the dense model, untouched."
_BEYOND = "An arrow at the edge: a value beyond the axis, with its number."
_RING = "Ring: the cliff, the highest sparsity at most a margin worse than dense."


def parts_of(
    plan: Plan,
    wide: pandas.DataFrame,
    tall: pandas.DataFrame,
    cliffs: pandas.DataFrame | None = None,
    groups: Sequence[Group] = (),
) -> tuple[LinePlot | None, DotPlot | None]:
    """Return the data of a study's figure: its lines and its rows; None without any."""
    cells = cells_of(wide)
    if cliffs is not None and len(cliffs):
        pairs = list(dict.fromkeys(zip(cliffs["split"], cliffs["metric"], strict=True)))
        scores = scores_of(plan, tall, [p for p in pairs if not pandas.isna(p[1])], groups)
        return cliff_plot(cliffs, tall, scores), None
    measures = measures_of(plan, tall)
    scores = scores_of(plan, tall, [measure.key for measure in measures], groups)
    controls = tall[(tall["kind"] == "baseline") & tall["value"].notna()]
    sweeps = sweeps_of(cells)
    along = line_plot(cells, sweeps, scores, measures, controls) if sweeps else None
    drawn = {cell.key for sweep in sweeps for cell in (*sweep.cells, *sweep.start)}
    others = [cell for cell in cells if cell.key not in drawn or cell.is_dense]
    if along and all(cell.is_dense for cell in others):
        return along, None
    if controls["dataset"].nunique() > 1:
        controls = controls.assign(name=controls["name"] + ", " + controls["dataset"])
    beside = controls.iloc[:0] if along else controls  # lines show them already
    return along, dot_plot(others, scores, measures, beside)


def draw_study(
    plan: Plan,
    wide: pandas.DataFrame,
    tall: pandas.DataFrame,
    cliffs: pandas.DataFrame | None = None,
    groups: Sequence[Group] = (),
) -> Any:
    """Return a study's figure (see `parts_of`), to be saved by `save`."""
    along, rows = parts_of(plan, wide, tall, cliffs, groups)
    with sheet.defaults():
        width, blocks = dot_blocks(rows) if rows else (sheet.WIDTH, [])
        blocks = [*(line_blocks(along, width) if along else ()), *blocks]
        title = plan["title"] or plan["study"]
        return sheet.compose(title, _note(along, rows), blocks, width)


def _note(along: LinePlot | None, rows: DotPlot | None) -> str:
    """Return the sentences that explain a figure."""
    lined, dotted = (part.panels if part else () for part in (along, rows))
    panels = [*lined, *dotted]
    shown = [score for panel in panels for score in panel.scores]
    if not shown:
        return "No cell of this study has a score yet."
    nouns = dict.fromkeys(
        display_names.items_noun(p.measure.metric, p.measure.is_task) for p in panels
    )
    bands = [score for panel in dotted for score in panel.bands.values()]
    notes = {
        f"Dot: mean over the {' or '.join(f'{noun}s' for noun in nouns)}.": True,
        _BAR: any(score.low is not None for score in shown),
        _SEEDS: any(len(score.seeds) > 1 for score in shown),
        _BAND: any(score.low is not None for score in bands),
        _LINE: bands and all(score.low is None for score in bands),
        _RING: any(point.ring for panel in lined for point in panel.points),
        _BEYOND: any(p.scale.beyond(score.value) for p in panels for score in p.scores),
    }
    return " ".join(note for note, is_true in notes.items() if is_true)
