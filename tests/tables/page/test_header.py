"""The header of the page."""

import dataclasses

from prunegrid.tables.page.header import header_of
from prunegrid.tables.page.scored_cells import ScoredCells
from tests.helpers import figure_world, whole_pages
from tests.helpers.figure_world import HALF, ROUGE, WIKI, around


def test_the_sentence_names_the_best_pruned_model_and_dense():
    header = header_of(whole_pages.demo())
    assert header.verdict == (
        "Of 6 pruned models, Wanda, 50% zeros (tuned: demo-qlora) does best by ROUGE-Lsum, "
        "test: 0.195 (95% interval 0.176–0.215), dense 0.345."
    )
    assert header.is_finished and header.counts == {"done": 9, "failed": 0, "missing": 0}


def test_less_is_better_of_a_perplexity():
    world = figure_world.World()
    world.cell("dense", scores={WIKI: around(20.0)})
    world.cell("a", scores={WIKI: around(40.0)}, **HALF)
    world.cell("b", scores={WIKI: around(30.0)}, **HALF).control("c", *ROUGE, 0.1)
    assert ": 30.0 (" in header_of(whole_pages.of(world)).verdict


def test_a_study_without_scores_has_a_header():
    world = figure_world.World(title="")
    world.cell("dense", status="missing").control("c", *ROUGE, 0.1)
    header = header_of(whole_pages.of(world))
    assert header.title == "s" and not header.is_finished
    assert "No pruned model has a score yet" in header.verdict and "1 missing" in header.verdict


def test_a_score_that_a_text_games_is_not_the_one_to_begin_with():
    facts = whole_pages.demo()
    gamed = facts.tall["metric"] == ROUGE[1]
    facts = dataclasses.replace(facts, tall=facts.tall.assign(flagged=gamed))
    assert facts.gamed == {ROUGE}
    assert "perplexity" in header_of(facts).verdict.lower()
    first, *_ = ScoredCells(facts).measures.values()
    assert first.key == WIKI
