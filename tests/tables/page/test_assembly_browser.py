"""Pages in a real browser, headless and offline: `make test-page`."""

from __future__ import annotations

import json

import pytest

from tests.helpers import whole_pages
from tests.helpers.page_browser import shown, until

pytestmark = pytest.mark.page


def marks(driver, chart="pareto-chart"):
    """Return the labels of a chart's marks and axes, as a screen reader has them."""
    script = f"""return [...document.querySelectorAll('#{chart} [aria-label]')]
        .map((mark) => mark.getAttribute('aria-label'))"""
    return driver.execute_script(script)


def choose(driver, name, value):
    """Choose a selector's option, as a hand does, and wait until the chart is drawn again."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    place = "document.getElementById('pareto-chart').dataset.drawn"
    before = driver.execute_script(f"return {place}")
    Select(driver.find_element(By.ID, name)).select_by_value(value)
    until(driver, f"{place} !== '{before}'")


@pytest.mark.parametrize("name", ["demo", "hostile"])
def test_no_request_leaves_and_nothing_is_wrong_in_the_console(browser, pages, name):
    shown(browser, pages(name))
    choose(browser, "pareto-score", "m1")
    browser.find_element("id", "theme").click()
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    assert pages(name) in sent
    assert [url for url in sent if url.split(":")[0] not in ("file", "data", "blob")] == []
    assert browser.get_log("browser") == []


def test_selectors_change_the_chart(browser, pages):
    shown(browser, pages("demo"))
    seen = [marks(browser)]
    for name, value in (
        ("pareto-score", "m1"),
        ("pareto-cost", "decode_tokens_per_second"),
        ("pareto-cost", "bytes_packed"),
    ):
        choose(browser, name, value)
        seen.append(marks(browser))
    assert seen[0] != seen[1] != seen[2] and seen[3] == seen[1]
    assert any("Perplexity" in label for label in seen[1])
    assert any("Decode speed" in label for label in seen[2])


def test_the_numbers_are_those_of_the_tables(browser, pages):
    facts = whole_pages.demo()
    shown(browser, pages("demo"))
    rows = browser.execute_script("return window.prunegrid.data.scores")
    names = ["name", "split", "metric", "value", "low", "high"]
    tall = facts.tall.astype(object).where(facts.tall.notna(), None)
    assert [[row[n] for n in names] for row in rows] == tall[names].to_numpy().tolist()
    points = browser.execute_script("return window.prunegrid.data.points")
    by_key = {(r["prune"], r["finetune"]): r for r in facts.wide.to_dict("records")}
    cells = facts.tall[facts.tall["kind"] == "cell"]
    assert len(points) == len(cells)
    assert {row["value"] for row in points} == set(cells["value"])
    for row in points:
        whole = by_key[row["prune"], row["finetune"]]
        assert row["bytes_packed"] == whole["bytes_packed"]


def test_the_fragment_keeps_the_state(browser, pages):
    shown(browser, pages("demo"))
    choose(browser, "pareto-score", "m1")
    browser.find_element("id", "made-with").find_element("tag name", "summary").click()
    browser.find_element("id", "scores-search").send_keys("magnitude ppl")
    browser.find_element("css selector", "#cells th button").click()
    until(browser, "location.hash.includes('made-with')")
    address = browser.current_url
    shown(browser, address)
    assert any("Perplexity" in label for label in marks(browser))
    script = "document.getElementById('made-with').open"
    assert browser.execute_script(f"return {script}")
    assert len(browser.find_elements("css selector", "#scores tbody tr")) == 1
    first = browser.find_element("css selector", "#cells th")
    assert first.get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize("chosen", ["system", "button"])
def test_dark_is_dark(browser, pages, chosen):
    shown(browser, pages("demo"))
    look = "return getComputedStyle(document.body).backgroundColor"
    label = (
        "return document.querySelector('#pareto-chart .role-axis-label text').getAttribute('fill')"
    )
    light = [browser.execute_script(script) for script in (look, label)]
    before = browser.execute_script("return document.getElementById('pareto-chart').dataset.drawn")
    if chosen == "system":
        media = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    else:
        browser.find_element("id", "theme").click()
    until(browser, f"document.getElementById('pareto-chart').dataset.drawn !== '{before}'")
    dark = [browser.execute_script(script) for script in (look, label)]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert light[0] != dark[0] and light[1] != dark[1]


def test_hostile_texts_do_nothing(browser, pages):
    shown(browser, pages("hostile"))
    for details in browser.find_elements("tag name", "details"):
        browser.execute_script("arguments[0].open = true", details)
    until(browser, "document.querySelectorAll('#scores tbody tr').length")
    assert browser.execute_script("return window.hit === undefined")
    assert browser.find_element("tag name", "h1").text.startswith("</script>")
    assert browser.find_elements("css selector", "img") == []


def test_a_keyboard_reaches_everything_that_can_be_pressed(browser, pages):
    shown(browser, pages("demo"))
    script = """return [...document.querySelectorAll('a, button, select, input, summary')]
        .filter((one) => one.tabIndex < 0 && !one.closest('.vega-embed')).length"""
    assert browser.execute_script(script) == 0
    unnamed = """return [...document.querySelectorAll('select, input')]
        .filter((one) => !one.labels.length || !one.labels[0].textContent.trim()).length"""
    assert browser.execute_script(unnamed) == 0
    drawn = """return [...document.querySelectorAll('.vega-embed [role=graphics-document]')]
        .map((one) => one.getAttribute('aria-label'))"""
    told = browser.execute_script(drawn)
    assert len(told) == 3 and all(len(label) > 40 for label in told)


def test_a_line_of_the_table_opens_its_drawer_and_the_fragment_keeps_it(browser, pages):
    shown(browser, pages("demo"))
    links = browser.find_elements("css selector", "#cells tbody a")
    assert len(links) == len(whole_pages.demo().wide)
    number = len(links) - 1
    browser.find_element("css selector", "#cells th button").click()  # the order is no matter
    link = browser.find_element("css selector", f"#cells a[href='#cell-{number}']")
    line = link.find_element("xpath", "ancestor::tr").text
    link.click()
    assert until(browser, f"document.getElementById('cell-{number}').open")
    drawer = browser.find_element("id", f"cell-{number}")
    assert link.text in line and link.text in drawer.find_element("tag name", "summary").text
    until(browser, "location.hash.includes('open=cell-')")
    shown(browser, browser.current_url)
    assert browser.find_element("id", f"cell-{number}").get_attribute("open")


def test_a_step_of_a_lineage_opens_in_its_place_once(browser, pages):
    shown(browser, pages("demo"))
    browser.find_elements("css selector", "#cells tbody a")[0].click()
    until(browser, "document.getElementById('cell-0').open")
    step = browser.find_element("css selector", "#cell-0 [data-clone]")
    for _ in range(3):  # open, close, open: by the keyboard
        step.find_element("tag name", "summary").send_keys(" ")
    until(browser, "document.querySelector('#cell-0 [data-clone][open] dl')")
    assert step.text.count("results/artifacts/model/0") == 1
