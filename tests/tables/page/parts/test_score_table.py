"""The long tables: scores of the figure come first, a status stands where a row is not whole."""

import re

from prunegrid.tables.page.parts import score_table
from tests.helpers import whole_pages
from tests.helpers.figure_world import PAIR, ROUGE, WIKI, World, around


def heads_of(world):
    html = score_table.part(whole_pages.of(world.control("lead", *ROUGE, 0.2))).html
    return re.findall('<th scope="col">(.*?)</th>', html)


def test_the_scores_of_the_figure_come_first():
    scores = {("test", name): around(0.3) for name in ("rouge1", "rouge2", "rougeLsum")}
    heads = heads_of(World().cell("dense", "none", {**scores, WIKI: around(20.0)}))
    scored = [head for head in heads if head.startswith(("ROUGE", "Perplexity"))]
    assert scored[:2] == ["ROUGE-Lsum, test", "Perplexity, wikipedia-512"]
    assert len(scored) == 4


def test_a_status_is_shown_where_a_row_is_not_whole():
    world = World().cell("dense", "none", {WIKI: around(20.0)})
    assert "status" not in heads_of(world)
    assert "status" in heads_of(world.cell("lost", "none", **PAIR, status="failed"))
