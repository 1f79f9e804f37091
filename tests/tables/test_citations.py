"""Citations: what ships has its works, or says why it has none."""

import re

import pytest

from prunegrid.common import plugins
from prunegrid.common.source_code import literals
from prunegrid.config.sources import parse_source
from prunegrid.data.sources.fetched import describe
from prunegrid.tables import citations
from tests.helpers import ROOT, shipped

ENTRIES = citations.bibliography()
FILES = [(kind, name) for kind in plugins.KINDS for name in plugins.files(kind)]
# Sources whose rows and weights are made here.
MADE_HERE = ("random:", "numbers:", "probe:")


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_every_plugin_names_its_works_or_says_why_it_has_none(kind, name):
    path = plugins.files(kind)[name]
    cited = literals(path)["CITE"]
    assert set(cited) <= ENTRIES.keys()
    assert citations.of_plugin(kind, name) == cited
    assert cited or re.search(r"^CITE.*= \(\)  # none: \w+", path.read_text(), re.MULTILINE)


def test_the_papers_that_a_file_names_by_their_numbers_are_those_that_it_cites():
    numbers = {key: re.search(r"eprint = {(.+?)}", text) for key, text in ENTRIES.items()}
    by_number = {found[1]: key for key, found in numbers.items() if found}
    for kind, name in FILES:
        docstring = plugins.files(kind)[name].read_text().split('"""')[1]
        # The second name of a paper in a docstring tells a deviation or a comparison.
        first = re.search(r"arXiv[: ](\d{4}\.\d{5})", docstring)
        if first:
            assert by_number[first[1]] in citations.of_plugin(kind, name), (kind, name)


def sections():
    config = shipped.check(shipped.config())
    return [
        (section, name, profile)
        for section in ("models", "datasets")
        for name, profile in config.sections[section].items()
    ]


@pytest.mark.parametrize(("section", "name", "profile"), sections(), ids=lambda one: str(one)[:40])
def test_every_model_and_data_set_that_ships_has_its_works(section, name, profile):
    if profile.source is None or profile.source.startswith(MADE_HERE):  # a mixture, or made here
        return
    source = {"name": describe(parse_source(profile.source, ROOT))}
    assert citations.of_source(source), f"{section} {name}: no entry of references.bib is of it"


def test_an_unknown_source_has_no_works():
    assert citations.of_source({"name": "local:/some/opt-125m"}) == ()
    assert citations.of_source({"name": "hf:facebook/opt-125m@abc"}) == ("zhang2022opt",)


def test_the_bibliography_is_whole():
    text = citations.BIBLIOGRAPHY.read_text()
    entries = text.count("\n@")
    assert len(ENTRIES) == entries and {*citations.SOFTWARE.values()} <= ENTRIES.keys()
    assert {citations.HARNESS, citations.NM} <= ENTRIES.keys()
    for key, entry in ENTRIES.items():
        fields = re.findall(r"^  (\w+) = {(.*)},$", entry, re.MULTILINE)
        assert len(fields) == entry.count("\n") - 1, f"{key}: a field a line"
        assert {"author", "title", "year"} <= dict(fields).keys(), key
        assert dict(fields)["year"] == re.search(r"\d{4}", key)[0], key
        assert "sources" not in dict(fields)
        number = dict(fields).get("eprint")
        assert number is None or re.fullmatch(r"\d{4}\.\d{5}", number), key
        assert entry.count("{") == entry.count("}"), key
    used = {key for kind, name in FILES for key in citations.of_plugin(kind, name)}
    used |= set(literals(citations.CORRECTION)["CITE"])
    for stage in citations.COMPARED:
        used |= set(literals(f"prunegrid.stages.{stage}")["CITE"])
    of_sources = set(re.findall(r"@\w+{(\w+),\n(?:  .*\n)*?  sources", text))
    assert used | of_sources | {citations.NM, citations.HARNESS, *citations.SOFTWARE.values()} == {
        *ENTRIES
    }
