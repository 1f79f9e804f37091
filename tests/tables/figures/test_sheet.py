"""The drawn figure: no text covers another, equal tables give equal files, and it is lazy."""

import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from prunegrid.tables import plot
from prunegrid.tables.figures import points, sheet
from prunegrid.tables.files import typed_frame
from prunegrid.tables.groups import collect
from prunegrid.tables.intervals import interval
from prunegrid.tables.schema import COLUMNS
from tests.helpers.contrast_world import World as Items
from tests.helpers.figure_world import HALF, PAIR, ROUGE, WIKI, World, around, demo


def far_off():
    """Return a study with a value beyond the axis, a failed cell, and names that are long."""
    title = "Structured pruning, a title that is long enough to need a second line "
    world = World(title=title * 2)
    world.cell(scores={WIKI: around(19.6)})
    for index, value in enumerate((26.8, 59.8, 28.8, 52.0, 49.1, 19677.0)):
        name = f"taylor-heads_mlp-0.{index}-least_squares-with-a-name-that-goes-on"
        world.cell(name, "a-long-name+another-long-name", {WIKI: around(value)}, **PAIR)
    return world.cell("w", status="failed", **HALF)


def swept(chance=0.2):
    """Return a sweep with rows beside it, of two models."""
    world = World()
    for model in ("opt-125m", "opt-350m"):
        for level in (None, 0.5, 0.6, 0.7):
            value = 0.3 - (level or 0) / 5
            facts = {"model": model, "pattern": "unstructured", "sparsity_target": level}
            scores = {ROUGE: around(value), WIKI: [20.0, 22.0, 25.0]}
            world.cell(f"w{level}" if level else "dense", scores=scores, **facts).last(n=1000)
        world.cell("two", "lora", {ROUGE: around(0.2), WIKI: 30.0}, model=model, **PAIR)
    return world.control("lead-60", *ROUGE, around(0.25))


def asked(tasks=7):
    """Return a study of many tasks alone."""
    world = World(title="Tasks")
    for prune, facts in (("dense", {}), ("wiki-wanda-50", HALF)):
        world.cell(prune, **facts)
        for number in range(tasks):
            world.score("cell", world.wide[-1], f"a-task-{number}", "acc_norm", around(0.4))
            world.last(harness="h", chance=0.25, n=50)
    return world


def compact():
    world = World()
    for prune in ["dense", *(f"w{i}" for i in range(15))]:
        for tuning in ("none", "lora", "qlora"):
            facts = PAIR if prune != "dense" else {}
            if (prune, tuning) == ("w3", "lora"):
                world.cell(prune, tuning, status="failed", **facts)
            else:
                world.cell(prune, tuning, {ROUGE: [0.3, 0.31, 0.33], WIKI: 30.0}, **facts)
    return world


def large():
    """Return three panels of large numbers beside long names."""
    world = World()
    for index, value in enumerate((2.0, 50.0, 900.0, 4e4, 3e6)):
        scores = {(f"text-{number}", "ppl_512_nonoverlap"): value for number in range(3)}
        world.cell(f"a-rather-long-name-of-a-pruning-{index}", scores=scores, **PAIR)
    return world


def failed():
    return World().cell(status="failed").cell("w", status="failed", **HALF)


WORLDS = [demo, far_off, swept, asked, compact, large, failed]


def texts_of(figure):
    """Return (text, its box in pixels) of everything that is written."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    written = list(figure.texts)
    for axis in figure.axes:
        written += [*axis.texts, axis.xaxis.label, axis.yaxis.label]
        written += [*axis.get_xticklabels(), *axis.get_yticklabels()]
    shown = [text for text in written if text.get_text() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in shown]


@pytest.mark.parametrize("world", WORLDS)
def test_no_text_covers_another_or_leaves_the_page(world):
    figure = plot.draw_study(*world().tables())
    with sheet.defaults():
        FigureCanvasAgg(figure).draw()
        written = texts_of(figure)
    assert len(written) > 2 or world is failed
    page = figure.bbox
    for text, box in written:
        assert box.x0 >= 0 and box.x1 <= page.x1 and box.y0 >= 0 and box.y1 <= page.y1, text
    for index, (one, box) in enumerate(written):
        for other, there in written[index + 1 :]:
            beside = box.x1 <= there.x0 or there.x1 <= box.x0
            assert beside or box.y1 <= there.y0 or there.y1 <= box.y0, (one, other)


def test_a_stranger_is_told_what_dots_bars_and_bands_are():
    written = " ".join(text for text, _ in drawn_texts(demo()))
    assert "Table 3 in small - SmolLM2-135M on AclSum" in written
    assert "Dot: mean over the documents or windows. Bar: its 95% interval over them." in written
    assert "Grey band: the dense model, untouched, with its interval." in written
    assert "higher is better →" in written and "← lower is better (log scale)" in written
    assert "small dot" not in written and "arrow" not in written
    far = " ".join(text for text, _ in drawn_texts(far_off()))
    assert "An arrow at the edge" in far and "19,677" in far and "failed" in far
    assert "each seed as a small dot" in " ".join(text for text, _ in drawn_texts(compact()))
    assert "No cell of this study has a score yet." in [t for t, _ in drawn_texts(failed())]


def drawn_texts(world):
    figure = plot.draw_study(*world.tables())
    with sheet.defaults():
        FigureCanvasAgg(figure).draw()
        return texts_of(figure)


@pytest.mark.parametrize("form", ["png", "svg"])
def test_equal_tables_give_equal_files(tmp_path, form):
    for name in ("a", "b"):
        plot.save(plot.draw_study(*swept().tables()), tmp_path / name, form, "s")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").stat().st_size > 5000


def test_a_users_settings_and_names_change_nothing(tmp_path):
    import matplotlib

    plot.save(plot.draw_study(*demo().tables()), tmp_path / "a", "svg", "s")
    with matplotlib.rc_context({"font.size": 30, "axes.grid": True, "svg.fonttype": "none"}):
        plot.save(plot.draw_study(*demo().tables()), tmp_path / "b", "svg", "s")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    odd = World(title="a $b$ and $").cell("w_$x^2$", scores={("te$t", "m_$"): 1.0}, **PAIR)
    assert "w_$x^2$" in [text for text, _ in drawn_texts(odd)]


def test_matplotlib_is_imported_when_something_is_drawn():
    code = "import sys; import prunegrid.tables.aggregate, prunegrid.commands.verify; "
    code += "assert not [name for name in sys.modules if name.startswith('matplotlib')]"
    lib = str(Path(points.__file__).resolve().parents[3])
    env = {"PYTHONPATH": lib, "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_the_bar_of_several_seeds_is_the_interval_of_their_mean(tmp_path):
    items = Items(tmp_path).cell("w", -0.05, seed=0).cell("w", -0.06, seed=1)
    for entry in items.tall:
        entry["value"] = 0.5
    plan = {"cells": items.cells, "bootstrap_seed": 0}
    groups = collect(plan, items.rows)
    wide, tall = typed_frame(items.rows, COLUMNS), pandas.DataFrame(items.tall)
    keys = [("test", "rouge1"), ("wiki", "ppl_16_nonoverlap")]
    scores = points.scores_of(plan, tall, keys, groups)
    rouge = scores["m", "x", "w", "none", *keys[0]]
    mean = items.hard + (items.noise[0] + items.noise[1] - 0.11) / 2
    assert (rouge.low, rouge.high) == pytest.approx(interval(plan, mean))
    perplexity = scores["m", "x", "w", "none", *keys[1]]
    assert perplexity.low < float(pandas.Series(-mean).map(lambda x: 2.718281828**x).mean())
    assert perplexity.low < perplexity.high and len(points.cells_of(wide)) == 1
    without = points.scores_of(plan, tall, keys)
    assert without["m", "x", "w", "none", *keys[0]].low is None
