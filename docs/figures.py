"""Draw the figures of docs/findings from the tables of its pages: python docs/figures.py [FOLDER].

The pages hold the numbers. A figure reads them from the tables, so it cannot say anything else.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot, ticker

DOCS = Path(__file__).parent
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#555555")
MARKERS = "osD^vPX"
STYLE = {
    "svg.fonttype": "none",  # text stays text: readable by screen readers, and small
    "svg.hashsalt": "prunegrid",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def tables(page: str) -> list[list[list[str]]]:
    """Return the tables of a page of findings: rows of cells, the header first, without marks."""
    text = (DOCS / "findings" / f"{page}.md").read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        head, _, *rows = block.splitlines()
        cells = [[cell.strip(" *`") for cell in row[1:-1].split("|")] for row in (head, *rows)]
        found.append(cells)
    return found


def number(cell: str) -> tuple[float, float, float] | None:
    """Return (value, low, high) of a cell such as `4.4 ± 0.4` or `.7 [.3, .9]`; None without."""
    digits = re.findall(r"-?(?:\d+\.?\d*|\.\d+)(?:e\d+)?", cell.replace(",", ""))
    values = [float(value) for value in digits]
    if not values or not re.match(r"-?[\d.]", cell):
        return None
    spread = re.match(r"(\S+) ± (\S+)", cell.replace(",", ""))
    if spread:
        return values[0], values[0] - float(spread[2]), values[0] + float(spread[2])
    interval = re.search(r"\[(\S+), (\S+)\]", cell)
    if interval:
        return values[0], float(interval[1]), float(interval[2])
    return values[0], values[0], values[0]


def column(rows: list[list[str]], name: str) -> list[tuple[str, tuple[float, float, float] | None]]:
    """Return (name of the row, its number) down one column."""
    place = rows[0].index(name)
    return [(row[0], number(row[place])) for row in rows[1:]]


def dots(axis, rows, columns, *, log=True, line=None, label="perplexity") -> None:
    """Draw a row of the figure for each row of a table, and a colour for each of its columns."""
    names = [row[0] for row in rows[1:]]
    for index, name in enumerate(columns):
        shift = (index - (len(columns) - 1) / 2) * 0.16
        for place, (_, found) in enumerate(column(rows, name)):
            if found is None:
                continue
            value, low, high = found
            low = max(low, value / 10) if log else low  # a spread may reach below zero
            axis.plot([low, high], [place + shift] * 2, color=COLORS[index], lw=1.2)
            axis.plot([value], [place + shift], MARKERS[index], ms=5, color=COLORS[index])
        axis.plot([], [], MARKERS[index], ms=5, color=COLORS[index], label=name)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.grid(axis="x", lw=0.4, alpha=0.5)
    if line is not None:
        axis.axvline(line, color="#555555", lw=1, ls=":")
    if log:
        log_axis(axis.xaxis)
    axis.set_xlabel(label)
    if len(columns) > 1:
        axis.legend(frameon=False, fontsize=8, loc="best")


def log_axis(axis) -> None:
    """Make an axis logarithmic with plain numbers at it."""
    axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
    low, high = axis.get_view_interval()
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high / low < 200 else (1,)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def lines(axis, rows, labels, levels, *, label, log=True, names=None) -> None:
    """Draw a line over the sparsities for each of the rows."""
    kept = [row for row in rows[1:] if names is None or row[0] in names]
    for index, row in enumerate(kept):
        found = [
            (x, number(row[rows[0].index(name)])) for x, name in zip(levels, labels, strict=True)
        ]
        found = [(x, y[0]) for x, y in found if y is not None]
        style = {"color": COLORS[index % 7], "marker": MARKERS[index % 7], "ms": 4, "lw": 1.3}
        axis.plot(*zip(*found, strict=True), label=row[0], **style)
    axis.set_xlabel("sparsity")
    axis.set_ylabel(label)
    axis.grid(lw=0.4, alpha=0.5)
    axis.set_xticks(levels, [f"{level:.0%}" for level in levels])
    if log:
        log_axis(axis.yaxis)
    axis.legend(frameon=False, fontsize=8)


def criteria(figure) -> None:
    """Draw the perplexities by pattern, and those by allocation."""
    by_pattern, by_allocation, *_ = tables("criteria")
    left, right = figure.subplots(1, 2, width_ratios=(5, 6))
    dots(left, by_pattern, by_pattern[0][1:], line=19.57)
    dots(right, by_allocation, by_allocation[0][1:])


def weight_updates(figure) -> None:
    """Draw the perplexity of each update, and of each propagation."""
    updates, propagation, *_ = tables("weight-updates")
    left, right = figure.subplots(1, 2)
    dots(left, updates, ["perplexity"], log=False)
    dots(right, propagation, propagation[0][1:], log=False)


def protocols(figure) -> None:
    """Draw three models under each protocol."""
    (rows,) = tables("protocols")
    dots(figure.subplots(), rows, rows[0][1:])


def recovery(figure) -> None:
    """Draw the scores and the perplexities of each strategy."""
    scores, perplexities = tables("recovery")
    left, right = figure.subplots(1, 2, sharey=True)
    models = ["dense", "Wanda 50%", "SparseGPT 2:4"]
    dots(left, scores, models, log=False, label="ROUGE-Lsum")
    dots(right, perplexities, models)
    right.get_legend().remove()


def prune_and_tune(figure) -> None:
    """Draw the arms of each method over the sparsity."""
    rows = tables("prune-and-tune")[0]
    for row in rows:
        if row[1] == "(the same)":  # of one step the iterative arm is the tuned one-shot arm
            alike = row[0].replace("iterative", "one-shot, then tuned")
            row[1] = next(other[1] for other in rows if other[0] == alike)
    levels = (0.3, 0.5, 0.7)
    for axis, method in zip(figure.subplots(1, 2), ("SparseGPT", "magnitude"), strict=True):
        names = [row[0] for row in rows if row[0].startswith((method, "dense"))]
        lines(axis, rows, rows[0][1:], levels, label="perplexity of Wikipedia", names=names)


def structured(figure) -> None:
    """Draw the perplexity after a tenth and a quarter of the weights went."""
    rows = tables("structured")[0]
    dots(figure.subplots(), rows, ["10%: perplexity", "25%: perplexity"], line=19.57)


def architectures(figure) -> None:
    """Draw each score as a share of the dense model's over the sparsity."""
    rows = next(table for table in tables("architectures") if table[0][0] == "score (n)")
    levels = (0, 0.1, 0.5, 0.9, 0.95, 0.99)
    shares = [rows[0]]
    for row in rows[1:]:
        values = [number(cell)[0] for cell in row[1:7]]
        turned = "perplexity" in row[0]
        relative = [values[0] / value if turned else value / values[0] for value in values]
        shares.append([row[0].split(" (")[0], *(f"{share:.9f}" for share in relative)])
    label = "share of the dense model's score"
    lines(figure.subplots(), shares, rows[0][1:7], levels, label=label, log=False)


def census(figure) -> None:
    """Draw the share of the weights in each bin."""
    rows = tables("census")[0]
    bins, axis = rows[0][1:-1], figure.subplots()
    for index, row in enumerate(rows[1:]):
        places = [place + (index - 1) * 0.27 for place in range(len(bins))]
        heights = [float(cell) for cell in row[1:-1]]
        axis.bar(places, heights, 0.25, label=row[0], color=COLORS[index])
    axis.set_xticks(range(len(bins)), bins, rotation=20)
    axis.set_xlabel("size of the weight")
    axis.set_ylabel("share of the weights in %")
    axis.set_yscale("log")
    axis.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))


def multitask(figure) -> None:
    """Draw the mean accuracy beside the perplexity."""
    rows = tables("multitask")[0]
    chance, cells = rows[-1], rows[:-1]
    left, right = figure.subplots(1, 2, sharey=True)
    level = number(chance[3])[0]
    dots(left, cells, ["mean"], log=False, line=level, label="mean accuracy of two tasks")
    left.set_xlim(0, 1)
    dots(right, cells, ["perplexity of Wikipedia"], log=False, label="perplexity of Wikipedia")
    right.set_xlim(0, None)


def three_stages(figure) -> None:
    """Draw the perplexity of each criterion after each stage, at 2:4 and at 70%."""
    at_2of4, _, at_70, *_ = tables("three-stages")
    left, right = figure.subplots(1, 2)
    dots(left, at_2of4, at_2of4[0][1:], line=17.68, label="perplexity at 2:4")
    dots(right, at_70, at_70[0][1:], line=17.68, label="perplexity at 70%")
    right.get_legend().remove()


def recover_small(figure) -> None:
    """Draw the perplexity of each recovery."""
    rows = tables("recover-small")[0]
    dots(figure.subplots(), rows, ["perplexity"], line=17.37, log=False)


def illusion(figure) -> None:
    """Draw the share of cloze items that each model chooses, and that it writes."""
    rows = tables("illusion")[0]
    label = "share of cloze items"
    dots(figure.subplots(), rows, rows[0][1:3], line=0.496, log=False, label=label)


def fast_zeros(figure) -> None:
    """Draw the lowest perplexity of each share of zeros against its speed, and its megabytes."""
    costs, perplexities, *_ = tables("fast-zeros")
    left, right = figure.subplots(1, 2, sharey=True)
    for axis, name in ((left, "tokens a second"), (right, "MB in memory")):
        points = []
        for index, kind in enumerate(("float32", "bfloat16", "int8")):
            lowest: dict[str, float] = {}
            for row, (_, found) in zip(perplexities[1:], column(perplexities, kind), strict=True):
                lowest[row[1]] = min(found[0], lowest.get(row[1], float("inf")))
            rows = [costs[0], *(row for row in costs[1:] if row[1] == kind)]
            found = [(cost[0], lowest[zeros], zeros) for zeros, cost in column(rows, name)]
            xs, ys, _ = zip(*found, strict=True)
            axis.plot(xs, ys, MARKERS[index], ms=5, color=COLORS[index], label=kind)
            for x, y, zeros in found:
                axis.annotate(zeros, (x, y), (4, 3), textcoords="offset points", fontsize=7)
            points += found
        front(axis, [point[:2] for point in points], more=name == "tokens a second")
        axis.set_xlabel(name)
        axis.grid(lw=0.4, alpha=0.5)
    log_axis(left.yaxis)
    left.set_ylabel("perplexity")
    left.legend(frameon=False, fontsize=8)


def front(axis, points, *, more: bool) -> None:
    """Draw a dotted line through the points that none beats: less of y, and more or less of x."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (-point[0] if more else point[0], point[1])):
        if not kept or y < kept[-1][1]:
            kept.append((x, y))
    axis.plot(*zip(*kept, strict=True), ":", color="#555555", lw=1, zorder=0)


FIGURES = {
    "criteria": (criteria, 2.6),
    "weight-updates": (weight_updates, 2.2),
    "protocols": (protocols, 2.2),
    "recovery": (recovery, 4.2),
    "prune-and-tune": (prune_and_tune, 3.2),
    "structured": (structured, 3.6),
    "architectures": (architectures, 3.6),
    "census": (census, 3.0),
    "multitask": (multitask, 2.2),
    "three-stages": (three_stages, 3.0),
    "recover-small": (recover_small, 2.2),
    "illusion": (illusion, 3.0),
    "fast-zeros": (fast_zeros, 3.4),
}


def draw(folder: Path) -> None:
    """Write the figure of each page to a folder; equal pages give equal files."""
    for name, (drawn_by, height) in FIGURES.items():
        with matplotlib.rc_context(STYLE):
            figure = pyplot.figure(figsize=(9, height), layout="constrained")
            drawn_by(figure)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
            pyplot.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if sys.argv[1:] else DOCS / "images")
