"""The page's layout in a real browser: narrow and wide, light and dark."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.helpers.page_browser import resized, shown, until

pytestmark = pytest.mark.page
PAGES = ("demo", "crowded", "grid", "counted", "hostile")
WIDTHS = (400, 700, 1000, 1600)
# Everything that reaches beyond the window's right edge and is in no box that scrolls.
CUT = """return [...document.querySelectorAll('body *')].filter((one) => {
  if (!one.getClientRects().length || one.closest('.skip')) return false;
  if (one.getBoundingClientRect().right <= document.documentElement.clientWidth + 1) return false;
  for (let box = one.parentElement; box; box = box.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX)) return false;
  return true;
}).map((one) => one.tagName + ' ' + one.className)"""
# Charts whose drawing is wider than its box, and which shrink instead.
WIDE = """return [...document.querySelectorAll('.chart-wrapper')]
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => one.closest('[data-drawn]').id)"""


@pytest.mark.parametrize(("name", "width"), itertools.product(PAGES, WIDTHS))
def test_no_window_cuts_anything_or_scrolls_sideways(browser, pages, name, width):
    resized(browser, width)
    shown(browser, pages(name))
    root = "document.documentElement"
    assert browser.execute_script(f"return {root}.scrollWidth <= {root}.clientWidth")
    assert browser.execute_script(CUT) == []
    # A heatmap has fields of one size, and names may be long: these scroll.
    scrolls = {"heatmap-chart", "contrasts-chart"} if width < 1000 else set()
    assert set(browser.execute_script(WIDE)) <= scrolls or name == "hostile"


def test_a_wide_window_is_used_and_text_stays_readable(browser, pages):
    resized(browser, 1600)
    shown(browser, pages("demo"))
    script = "return document.querySelector('{}').getBoundingClientRect().width"
    widths = {name: browser.execute_script(script.format(name)) for name in ("main", ".caption")}
    assert 1400 < widths["main"] <= 1500 and widths[".caption"] <= 850
    assert browser.execute_script(script.format("#pareto-chart svg")) > 1000
    boxes = """return [...document.querySelectorAll('#table .scroll')]
        .filter((box) => box.scrollWidth > box.clientWidth + 1).length"""
    assert browser.execute_script(boxes) == 0  # every column is seen
    resized(browser, 2600)
    shown(browser, pages("demo"))
    assert browser.execute_script(script.format("main")) <= 1500


@pytest.mark.parametrize("width", WIDTHS)
def test_no_row_of_a_short_table_is_hidden(browser, pages, width):
    resized(browser, width)
    shown(browser, pages("demo"))
    script = """return [...document.querySelectorAll('.scroll')].filter((box) => box.clientWidth)
        .map((box) => [box.querySelectorAll('tr').length, box.scrollHeight - box.clientHeight])"""
    boxes = browser.execute_script(script)
    short = [hidden for rows, hidden in boxes if rows <= 20]
    assert len(short) >= 3 and max(short) <= 1


def test_a_chart_follows_the_window(browser, pages):
    resized(browser, 1600)
    shown(browser, pages("demo"))
    width = "document.querySelector('#pareto-chart svg').getBoundingClientRect().width"
    assert browser.execute_script(f"return {width}") > 1000
    resized(browser, 500)
    assert until(browser, f"{width} < 500")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_name_is_not_broken_at_its_hyphen(browser, pages, width):
    resized(browser, width)
    shown(browser, pages("demo"))
    script = """const range = document.createRange(), text = document.querySelector('h1 .word');
        range.selectNodeContents(text); return [text.textContent, range.getClientRects().length]"""
    assert browser.execute_script(script) == ["SmolLM2-135M", 1]


@pytest.mark.parametrize("name", ["demo", "crowded"])
def test_marks_do_not_cover_each_other(browser, pages, name):
    resized(browser, 1000)
    shown(browser, pages(name))
    script = """return [...document.querySelectorAll('#pareto-chart .mark-symbol path')]
        .filter((one) => !one.closest('.role-legend'))
        .map((one) => one.getBoundingClientRect()).map((box) => [box.x, box.y])"""
    places = browser.execute_script(script)
    assert len(places) == 9
    for (x, y), (other_x, other_y) in itertools.combinations(places, 2):
        assert abs(x - other_x) >= 8 or abs(y - other_y) >= 8


@pytest.mark.parametrize("name", PAGES)
def test_selectors_of_a_part_have_different_names(browser, pages, name):
    shown(browser, pages(name))
    script = """return [...document.querySelectorAll('section')].map((section) =>
        [...section.querySelectorAll('select')].map((one) => one.labels[0].firstChild.data))"""
    for names in browser.execute_script(script):
        assert len(names) == len(set(names))


def luminance(colour):
    """Return the relative luminance of a colour such as rgb(1, 2, 3), by WCAG 2."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Return the contrast ratio of two colours."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_markers_and_captions_can_be_seen(browser, pages, theme):
    shown(browser, f"{pages('demo')}#theme={theme}")
    script = """const all = [getComputedStyle(document.body).backgroundColor];
        for (const one of document.querySelectorAll('main summary, header summary')) {
          if (one.closest('.vega-embed')) continue;
          all.push(getComputedStyle(one, '::marker').color, getComputedStyle(one).color); }
        for (const one of document.querySelectorAll('.caption, nav a, dt'))
          all.push(getComputedStyle(one).color);
        return all"""
    paper, *inks = browser.execute_script(script)
    assert len(inks) > 10 and min(contrast(ink, paper) for ink in inks) >= 4.5


def test_marks_can_be_seen_in_the_dark(browser, pages):
    shown(browser, f"{pages('demo')}#theme=dark")
    script = """return [getComputedStyle(document.body).backgroundColor,
        ...[...document.querySelectorAll('#pareto-chart .mark-symbol path')]
          .map((one) => getComputedStyle(one).stroke)]"""
    paper, *inks = browser.execute_script(script)
    assert len(inks) > 9
    assert min(contrast(ink, paper) for ink in inks if ink.startswith("rgb(")) >= 4.5
