"""A part that fails is a heading and a sentence: the rest of the page, and the table, are there."""

import dataclasses
import logging

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.tables import census
from prunegrid.tables.page import assembly, claims_section
from prunegrid.tables.page.parts import failed_cells, heatmap, score_table
from tests.helpers import whole_pages

MARK = assembly.FAILED_PART


def fails(facts):
    raise KeyError("no <b>column</b>")


@pytest.fixture
def failing(monkeypatch, failed_parts):
    """Let the heatmap fail; forget it afterwards, as it was meant to."""
    monkeypatch.setattr(heatmap, "part", fails)
    yield failed_parts
    failed_parts.clear()


def test_a_part_that_fails_says_so_and_the_others_are_there(failing, caplog):
    text = assembly.page(whole_pages.demo())
    assert text.count(MARK) == 1
    _, _, rest = text.partition(f">{heatmap.TITLE}</h2>")
    sentence = rest.partition("</section>")[0]
    assert "could not be made: KeyError" in sentence and "&lt;b&gt;" in sentence
    for title in ("What quality costs", "Contrasts", "Table", "Rows"):
        assert f">{title}" in text
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert heatmap.TITLE in record.getMessage() and record.exc_info[0] is KeyError
    assert failing == [heatmap.TITLE]  # by which other tests fail


def test_what_is_no_json_fails_its_part_alone(monkeypatch, failed_parts):
    part = score_table.part(whole_pages.demo())
    odd = dataclasses.replace(part, charts={"x": {"data": object()}})
    monkeypatch.setattr(score_table, "part", lambda facts: odd)
    text = assembly.page(whole_pages.demo())
    assert text.count(MARK) == 1 and failed_parts == [score_table.TITLE]
    failed_parts.clear()


def test_the_part_that_makes_a_page_too_large_is_left_out(monkeypatch, failed_parts):
    whole = assembly.page(whole_pages.demo())
    monkeypatch.setattr(assembly, "LARGEST", len(whole.encode()) - 1000)
    text = assembly.page(whole_pages.demo())
    assert text.count(MARK) == 1 and len(failed_parts) == 1
    assert f"a page at most {assembly.LARGEST}" in text and len(text.encode()) <= assembly.LARGEST
    failed_parts.clear()


def test_a_page_that_is_too_large_without_any_part_is_an_error(monkeypatch, failed_parts):
    monkeypatch.setattr(assembly, "LARGEST", 1000)
    with pytest.raises(PrunegridError, match=r"s\.html.*bytes"):
        assembly.page(whole_pages.demo())
    failed_parts.clear()


def test_conclusions_that_cannot_be_read_are_said_to_be(tmp_path, failed_parts):
    (tmp_path / claims_section.FILE).write_text("damaged")
    text = assembly.page(whole_pages.demo(results=tmp_path))
    claims = text.partition("<!-- claims -->")[2].partition("<!-- end of claims -->")[0]
    assert MARK in claims and claims.endswith("</section>")
    failed_parts.clear()


def test_the_table_is_written_though_a_part_fails(tmp_path, monkeypatch, failed_parts):
    monkeypatch.setattr(failed_cells, "part", fails)
    columns = {"model": "m", "prune": "dense", "finetune": "none", "dataset": None, "seed": None}
    lost = {"path": str(tmp_path / "none"), "key": "0", "stage": "census", "label": "census m"}
    lost |= {"status": str(tmp_path / "status")}
    plan = {"study": "c", "kind": "census", "title": "", "key": "k", "edges": [1.0], "zeros": "in"}
    plan |= {"cells": [{"columns": columns, "census": lost, "chain": [lost], "ancestors": [lost]}]}
    census.tabulate_census(plan | {"embeddings": True}, tmp_path)
    assert (tmp_path / "c.parquet").is_file()
    assert MARK in (tmp_path / "c.html").read_text(encoding="utf-8")
    failed_parts.clear()
