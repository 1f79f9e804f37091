"""The LaTeX table: its numbers are the Parquet's, its texts escaped, its rows of equal length."""

import re
import shutil
import subprocess

import pytest

from prunegrid.tables.contrasts import contrast_rows
from prunegrid.tables.files import typed_frame
from prunegrid.tables.latex import escape, render_latex
from prunegrid.tables.schema import COLUMNS, LONG
from tests.helpers.contrast_world import World as ContrastWorld
from tests.helpers.figure_world import ROUGE, WIKI, World, around

SPECIALS = "a_b%c&d#e$f{g}h~i^j\\k[l]*m|n<o>p"
HALF = {"sparsity_target": 0.5}


def lines_of(text):
    """Return the cells of each row between the rules, and the number of declared columns."""
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0].replace(r"\midrule", "")
    rows = [line.removesuffix(r" \\") for line in body.strip().splitlines() if line]
    declared = re.search(r"\\begin{tabular}{(\w+)}", text)[1]
    return [re.split(r"(?<!\\) & ", row) for row in rows], len(declared)


def study(**plan):
    world = World(**plan)
    world.cell(scores={WIKI: around(12.3456), ROUGE: around(0.34567)})
    world.cell("w_50%", scores={WIKI: around(45.678), ROUGE: (0.0123, -0.01, 0.02)}, **HALF)
    world.cell("odd", status="failed", reason="it_failed")
    return world


def test_the_numbers_are_those_of_the_tables():
    plan, wide, tall = study().tables()
    (_, *rows), declared = lines_of(render_latex(plan, wide, tall))
    assert [len(row) for row in rows] == [declared] * 3
    for row, prune in zip(rows, ("dense", "w_50%", "odd"), strict=True):
        scores = tall[tall["prune"] == prune].set_index("metric")
        for cell, metric, form in ((row[-1], WIKI[1], ".2f"), (row[-2], ROUGE[1], ".3f")):
            found = re.findall(r"-?\d+\.\d+", cell.replace("--", " "))
            expected = scores.loc[metric, ["value", "low", "high"]] if len(scores) else []
            assert found == [format(value, form) for value in expected]
    assert (
        rows[1][0] == r"w\_50\%"
        and rows[1][2] == r"50.0\%"
        and rows[2][2:] == ["failed", "--", "--"]
    )


def test_no_text_of_a_study_is_a_command():
    escaped = escape(SPECIALS)
    plain = re.sub(r"\\text\w+{}|\\[&%$#_{}]|{[\[\]*]}", "", escaped)
    assert not set(plain) & set("\\&%$#_{}[]*~^|<>")
    assert escape("two\nlines") == "two lines"
    world = World(title=SPECIALS).cell(SPECIALS, scores={(SPECIALS, "m_x"): 1.0})
    text = render_latex(*world.tables())
    assert text.count(escaped) == 3 and SPECIALS not in text
    rows, declared = lines_of(text)
    assert {len(row) for row in rows} == {declared}


def test_verdicts_are_marks_on_their_rows_and_explained(tmp_path):
    world = ContrastWorld(tmp_path).cell("dense", 0).cell("w_1", -0.2).cell("w_2", 0)
    plan = {"study": "s", "title": "", "cells": world.cells, "bootstrap_seed": 0}
    side = {"b": {"prune": "dense"}, "split": "test", "metric": "rouge1", "margin": None}
    declared = [{"name": n, "a": {"prune": p}, **side} for n, p in (("one", "w_1"), ("two", "w_2"))]
    declared.append({"name": "three", "a": {"prune": "gone"}, **side})
    plan["contrasts"] = declared
    wide, tall = typed_frame(world.rows, COLUMNS), typed_frame(world.tall, LONG)
    tall["value"] = 0.5
    contrasts = contrast_rows(plan, world.rows, tall)
    text = render_latex(plan, wide, tall, contrasts)
    rows, _ = lines_of(text)
    column = next(i for i, head in enumerate(rows[0]) if "rouge1" in head)
    assert [row[column].partition("$")[2] for row in rows[1:]] == ["", "^{a-}$", r"^{b\approx}$"]
    assert r"$^{a}$ one, against m / x / dense / none: worse, difference -0.2" in text
    assert "three" in text and "not compared" in text


@pytest.mark.parametrize("at_chance", [True, False])
def test_a_score_at_chance_is_marked(at_chance):
    world = World().cell(scores={("piqa", "acc"): 0.5}).last(at_chance=at_chance)
    assert (r"0.500$^{\dagger}$" in render_latex(*world.tables())) == at_chance


@pytest.mark.formats
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_takes_the_table(tmp_path):
    world = study(title=SPECIALS).cell(SPECIALS, scores={WIKI: around(1.5), (SPECIALS, "m_x"): 1.0})
    (tmp_path / "table.tex").write_text(render_latex(*world.tables()))
    lines = (r"\documentclass{article}", r"\usepackage{booktabs}", r"\begin{document}")
    lines += (r"\input{table}", r"\end{document}")
    (tmp_path / "paper.tex").write_text("\n".join(lines))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 0
