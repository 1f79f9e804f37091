"""The page as text: whole, safe, the same for the same table."""

import json
import re

import pandas
import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.tables import census
from prunegrid.tables.files import typed_frame
from prunegrid.tables.page import assembly, part_files
from prunegrid.tables.page.part import PageFacts, Part
from prunegrid.tables.schema import LONG
from tests.helpers import whole_pages
from tests.helpers.whole_pages import HOSTILE, IMAGE


@pytest.fixture(scope="module")
def demo():
    """Return a page of the demo's shape."""
    return assembly.page(whole_pages.demo())


def embedded(text, name):
    """Return the JSON that a page holds under a name."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text)
    return json.loads(found[1])


def rows(text, name):
    """Return the rows of a data set of a page."""
    packed = embedded(text, "data")[name]
    return [dict(zip(packed["columns"], row, strict=True)) for row in packed["rows"]]


def test_the_same_table_gives_the_same_page(demo):
    assert assembly.page(whole_pages.demo()) == demo
    assert len(demo.encode()) < assembly.LARGEST


def test_numbers_on_the_page_are_those_of_the_long_table(demo):
    tall = whole_pages.demo().tall
    for name in ("value", "low", "high"):
        assert [row[name] for row in rows(demo, "scores")] == tall[name].tolist()


def test_nothing_is_fetched(demo):
    html = re.sub(r"<script.*?</script>", "", demo, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=\s*["']?(?!#)[a-z/]|url\(|@import""", html)
    assert "default-src 'none'" in html


def test_hostile_texts_are_escaped():
    text = assembly.page(whole_pages.hostile())
    own = [*re.finditer(r"<script>.*?</script>", text, re.DOTALL)]
    assert len(own) == 2 and not own[1][0].startswith("<script>window.hit")
    rest = text[: own[0].start()]  # the library's and the page's script come last
    assert rest.count("<script") == 2 and "<img" not in rest
    assert {row["metric"] for row in rows(text, "scores")} >= {IMAGE}
    assert {row["split"] for row in rows(text, "scores")} >= {HOSTILE}


def test_a_study_that_is_not_finished_says_so(demo):
    text = assembly.page(whole_pages.hostile())
    assert "not finished: of 4 cells 1 failed and 1 missing" in text
    assert "not finished" not in demo
    states = {row["text"] for row in rows(text, "relative_to_dense")}
    assert {"failed", "missing"} <= states


def test_a_ratio_to_dense_has_its_paired_interval(demo):
    by_cell = {(r["cell"], r["measure"]): r for r in rows(demo, "relative_to_dense")}
    row = by_cell["Wanda, 50% zeros; tuned: demo-qlora", "m0"]
    assert row["ratio"] == pytest.approx(0.195 / 0.345)
    ends = [1 + (-0.15 + end) / 0.345 for end in (-0.05, 0.05)]
    assert [row["low"], row["high"]] == pytest.approx(ends)
    assert row["text"] == "0.57 (0.42–0.71)"
    ratio = by_cell["Wanda, 50% zeros; tuned: demo-qlora", "m1"]  # of perplexities: itself
    paired = 19.6 / 41.0
    assert [ratio["low"], ratio["high"]] == pytest.approx(
        [1 / (paired + 0.05), 1 / (paired - 0.05)]
    )


def test_intervals_have_one_form(demo):
    """value (low–high): by no ± and no brackets."""
    shown = re.sub(r"<script.*?</script>|<style.*?</style>", "", demo, flags=re.DOTALL)
    texts = [shown, *(row["text"] for row in rows(demo, "relative_to_dense"))]
    for text in texts:
        assert not re.search(r"±|\d\s?…\s?[-\d]|\[\d", text)
    assert "(0.310–0.380)" in shown


def test_a_line_does_not_end_in_the_middle_of_a_name(demo):
    heading = re.search("<h1>(.*?)</h1>", demo)[1]
    assert '<span class="word">SmolLM2-135M</span>' in heading
    plain = re.sub("<.*?>", "", heading).replace("\u00a0", " ")
    assert plain == whole_pages.demo().plan["title"]


def test_marks_that_cannot_be_told_apart_are_hollow(demo):
    points = {(r["prune"], r["finetune"], r["measure"]): r for r in rows(demo, "points")}
    tuned = points["dense", "demo-full", "m0"]
    assert tuned["hollow"] and tuned["cannot_be_told_from"] == ["not pruned; not tuned"]
    assert not points["magnitude-2of4", "demo-qlora", "m0"]["hollow"]


def test_parts_are_found_in_their_order():
    modules = part_files.modules()
    first, table = (f"{part_files.PACKAGE}.{name}" for name in ("pareto", "score_table"))
    assert modules.index(first) < modules.index(table)


def test_ids_are_used_once():
    twice = [Part("a", "A", "", data={"d": []}), Part("b", "B", "", data={"d": []})]
    with pytest.raises(PrunegridError, match="data d"):
        assembly.require_distinct(twice)
    assembly.require_distinct(twice[:1])


def test_values_are_plain_json():
    values = [pandas.NA, float("nan"), float("inf"), 1.5, pandas.Series([3]).iloc[0], "x", True]
    assert [assembly.plain(value) for value in values] == [None, None, None, 1.5, 3, "x", True]
    text = assembly.as_json({"a": "</script>\u2028"})
    assert "<" not in text and "\u2028" not in text
    assert json.loads(text) == {"a": "</script>\u2028"}


def test_names_that_altair_counts_begin_at_one():
    text = '{"name":"view_7","params":["view_7","param_3"]}'
    assert assembly.recounted(text) == '{"name":"view_1","params":["view_1","param_2"]}'


def test_a_census_has_a_page_that_says_what_is_missing():
    about = {"study": "c", "prune": "dense", "finetune": "none", "status": "ok"}
    shares = {"group": "all", "bin": "0", "count": 1, "parameters": 4, "share": 0.25}
    found = [about | {"model": "m"} | shares, about | {"model": "m"} | shares | {"bin": "1"}]
    found += [about | {"model": "n", "status": "missing", "reason": "not reached"}]
    plan = whole_pages.demo().plan | {"kind": "census", "study": "c", "title": "", "edges": [1.0]}
    step = {"path": "p", "key": "0", "stage": "model", "label": "l", "status": "s"}
    plan |= {"cells": [{"columns": {}, "chain": [step], "ancestors": [step]}] * 2}
    wide = typed_frame(found, census.COLUMNS)
    text = assembly.page(PageFacts(plan, wide, typed_frame([], LONG)))
    assert "weights of 1 model" in text and "of 2 cells 1 missing" in text
    assert "not reached" in text
