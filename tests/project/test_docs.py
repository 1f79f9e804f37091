"""The pages: no dead link, each reachable from the index, figures as their tables say."""

from __future__ import annotations

import re
import runpy

import pytest

from prunegrid.config.config_files import ConfigError, read_files
from tests.helpers import ROOT, shipped
from tests.helpers.doc_pages import DOCS, anchors, blocks, commands, links, pages, snippets

# The changelog tells where a page was at its time.
PAGES = [page for page in pages() if page.name != "CHANGELOG.md"]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
SHOWN = [ROOT / "README.md", *(page for page in PAGES if page.is_relative_to(DOCS))]
SETTINGS = [block for page in SHOWN for block in blocks(page, "yaml") if not block.mark]
# What tests/workflow/test_examples.py runs of a block without a mark.
RUN = re.compile(
    r"prunegrid \w|python examples/make_inputs.py inputs$|sed |\. \.venv/bin/activate$"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page):
    dead = [
        link
        for link, path, anchor in links(page)
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path))
    ]
    assert dead == []


def test_each_page_is_reached_from_the_index():
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.is_relative_to(DOCS):
            reached.add(page)
            waiting += [path for _, path, _ in links(page) if path.suffix == ".md"]
    assert {page for page in PAGES if page.is_relative_to(DOCS)} == reached
    assert DOCS / "index.md" in {path for _, path, _ in links(ROOT / "README.md")}


def test_the_contents_of_the_site_are_the_pages_of_each_folder():
    for index in DOCS.rglob("index.md"):
        (toctree,) = blocks(index, "{toctree}")
        names = [line for line in toctree.text.split() if not line.startswith(":")]
        shown = {
            (ROOT / name[1:] if name[0] == "/" else index.parent / name).with_suffix(".md")
            for name in names
            if "*" not in name
        }
        here = {page for page in index.parent.glob("*.md") if page != index}
        assert shown <= set(PAGES)
        if "*" not in names:
            assert here <= shown


def test_a_dead_link_and_a_dead_anchor_are_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A *title*: 2:4\n\n[a](#a-title-24) [b](#other) [c](gone.md) `[d](e.md)`\n")
    found = {link: (path.exists(), anchor in anchors(page)) for link, path, anchor in links(page)}
    assert found == {
        "#a-title-24": (True, True),
        "#other": (True, False),
        "gone.md": (False, False),
    }


def test_figures_are_drawn_from_the_tables_of_their_pages(tmp_path):
    figures = runpy.run_path(str(DOCS / "figures.py"))
    figures["draw"](tmp_path)
    for name in figures["FIGURES"]:
        drawn, kept = (place / f"{name}.svg" for place in (tmp_path, DOCS / "images"))
        labels, places = zip(*map(parts_of, (drawn, kept)), strict=True)
        assert labels[0] == labels[1] and len(labels[0]) > 5, name
        assert places[0] == pytest.approx(places[1], abs=0.01), f"python docs/figures.py: {name}"
        assert f"images/{name}.svg" in (DOCS / f"findings/{name}.md").read_text(encoding="utf-8")


def parts_of(figure):
    """Return (labels, coordinates in points) of a figure."""
    text = figure.read_text(encoding="utf-8")
    places = [float(place) for place in re.findall(r"-?\d+\.\d+", text)]
    return re.findall(r"<text[^>]*>([^<]+)<", text), places


def test_each_study_that_was_run_has_a_page():
    index = (DOCS / "findings/index.md").read_text(encoding="utf-8")
    first = index[: index.index("## Studies that were not run")]
    for name in re.findall(r"\]\(([a-z-]+\.md)\)", first):
        text = (DOCS / "findings" / name).read_text(encoding="utf-8")
        assert "**Asked:**" in text and "**Found:**" in text and "](../images/" in text


def test_each_snippet_is_run_or_says_why_not():
    silent, unknown = [], []
    for block in snippets():
        if block.mark == "not run":
            silent += [block] if len(block.reason.split()) < 3 else []
        elif block.mark == "run by":
            test = ROOT / block.reason
            named = str(block.page.relative_to(ROOT))
            silent += [] if test.is_file() and named in test.read_text("utf-8") else [block]
        elif block.language == "sh":
            unknown += [line for line in commands(block) if not RUN.match(line)]
    assert silent == []
    assert unknown == []


def test_the_site_needs_no_other_version_of_what_is_pinned():
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.lock").read_text(), re.M))
    text = (ROOT / "envs/docs.lock").read_text()
    entries = re.split(r"\n(?=[a-z])", text.strip())
    for entry in entries:
        name, version = re.match(r"([\w.-]+)==(\S+)", entry).groups()
        assert pinned.get(name, version) == version, name
        assert re.fullmatch(r"( \\\n    --hash=sha256:[0-9a-f]{64})+", entry.partition(version)[2])
    assert "://" not in text and len(entries) > 10


@pytest.mark.parametrize("block", SETTINGS, ids=lambda b: f"{b.page.name}:{b.text[:20]}")
def test_settings_of_the_docs_are_valid_beside_the_shipped_ones_or_an_example(block, tmp_path):
    """But for files that a reader has and this project has not."""
    (tmp_path / "mine.yaml").write_text(block.text)
    told = []
    for example in (None, *EXAMPLES):
        told.append(wrong(tmp_path / "mine.yaml", example))
        if not told[-1]:
            return
    pytest.fail("\n".join(min(told, key=len)))


def wrong(path, example):
    """Return the faults of settings laid over an example, without those of missing files."""
    files = [*shipped.FILES, *([example] if example else []), path]
    try:
        shipped.check(read_files(files), files)
    except ConfigError as error:
        return [text for text in map(str, error.faults) if "there is no file" not in text]
    return []
