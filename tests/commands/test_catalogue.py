"""`prunegrid list`: studies with their state, and a line for each profile and plugin."""

from __future__ import annotations

import pandas
import pytest

from prunegrid.commands import catalogue
from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.config.grid import expand
from tests.helpers import shipped
from tests.helpers.shipped import check


@pytest.fixture(scope="module")
def config():
    return check(shipped.config())


def words(lines, name):
    (line,) = [line for line in lines if line.split()[:1] == [name]]
    return line


def test_a_study_has_its_kind_its_cells_and_how_far_its_table_is(config, tmp_path):
    count = len(expand(config, "demo"))
    status = ["ok"] * (count - 1) + ["failed"]
    pandas.DataFrame({"status": status}).to_parquet(tmp_path / "demo.parquet")
    lines = catalogue.lines(config, "studies", tmp_path)
    assert len(lines) == len(config.sections["studies"]) + 2
    assert f"evaluations  {count}" in words(lines, "demo") and lines[2] == words(lines, "demo")
    assert f"{count - 1} of {count} done" in words(lines, "demo")
    assert "not made" in words(lines, "table3") and "census" in words(lines, "census-small")
    pandas.DataFrame({"status": ["ok"] * count}).to_parquet(tmp_path / "demo.parquet")
    done = words(catalogue.lines(config, "studies", tmp_path), "demo")
    assert " done " in done and " of " not in done.partition("done")[0]


@pytest.mark.parametrize("what", catalogue.names())
def test_each_list_has_a_line_for_each_name(config, tmp_path, what):
    lines = catalogue.lines(config, what, tmp_path)
    kinds = catalogue.PLUGINS.get(what)
    names = [n for kind in kinds for n in plugins.files(kind)] if kinds else config.sections[what]
    listed = [line.split()[0] for line in lines]
    assert sorted(listed[-len(names) :]) == sorted(names) if names else not listed
    assert all(len(line.split()) > 1 for line in lines)


def test_a_method_is_told_by_its_own_first_sentence(config, tmp_path):
    lines = catalogue.lines(config, "methods", tmp_path)
    assert any(line.startswith("wanda") and "arXiv:2306.11695" in line for line in lines)


def test_an_unknown_list_names_the_nearest(config, tmp_path):
    with pytest.raises(PrunegridError, match="did you mean 'models'"):
        catalogue.lines(config, "modles", tmp_path)
