"""Vega's scripts: bundled once for a folder, and again where the cache is not to be trusted."""

import json

import pytest
import vl_convert

from prunegrid.tables.page import vega


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """Return how often scripts were bundled, in a folder of a run."""
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda: calls.append(1) or "scripts()")
    return calls


def test_scripts_are_bundled_once_for_a_folder(tmp_path, bundled):
    (tmp_path / ".snakemake").mkdir()
    assert [vega.scripts() for _ in range(3)] == ["scripts()"] * 3
    assert len(bundled) == 1


def test_nothing_is_kept_where_snakemake_has_no_folder(tmp_path, bundled):
    assert vega.scripts() == vega.scripts() == "scripts()"
    assert len(bundled) == 2 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace("scripts()", "alert(1)"),
        lambda text: json.dumps({"vl_convert": vl_convert.__version__, "scripts": "alert(1)"}),
    ],
)
def test_a_damaged_cache_is_made_again(tmp_path, bundled, damage):
    (tmp_path / ".snakemake").mkdir()
    vega.scripts()
    path = tmp_path / vega.CACHE
    text = path.read_text()
    path.write_text(damage(text))
    assert vega.scripts() == "scripts()" and path.read_text() == text


def test_another_version_bundles_its_own(tmp_path, bundled, monkeypatch):
    (tmp_path / ".snakemake").mkdir()
    vega.scripts()
    monkeypatch.setattr(vl_convert, "__version__", "another")
    vega.scripts()
    assert len(bundled) == 2
