"""The outcome of a verification: a sealed file, and a line of the page."""

from datetime import UTC, datetime

import pytest

from prunegrid.artifacts.artifact_folder import read_sealed, sealed
from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import file_sha256, write_json
from prunegrid.tables.page import assembly, verification
from tests.helpers import whole_pages

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def table(tmp_path):
    """Return a table whose manifest names it and its page."""
    table, page = tmp_path / "s.parquet", tmp_path / "s.html"
    table.write_bytes(b"numbers")
    page.write_text(assembly.page(whole_pages.demo()), encoding="utf-8")
    files = {path.name: file_sha256(path) for path in (table, page)}
    write_json(tmp_path / "s.manifest.json", sealed({"key": "k", "files": files}))
    return table


def test_a_pass_stands_on_the_page_and_in_a_sealed_file(table):
    page = table.with_suffix(".html")
    before = page.read_text()
    assert "prunegrid verify results/s.parquet" in before
    verification.record(table, [], NOW)
    outcome = read_sealed(verification.outcome_file(table))
    assert outcome["differences"] == [] and outcome["table_sha256"] == file_sha256(table)
    text = page.read_text()
    assert "✓ Verified 2026-01-02 03:04:05 UTC" in text
    assert "prunegrid verify results/s.parquet" not in text
    manifest = read_sealed(table.with_suffix(".manifest.json"))
    assert manifest["files"]["s.html"] == file_sha256(page)


def test_differences_are_told_and_escaped_and_a_later_pass_takes_their_place(table):
    verification.record(table, [f"<b>{number}" for number in range(30)], NOW)
    text = table.with_suffix(".html").read_text()
    assert "30 difference(s)" in text and "&lt;b&gt;0" in text and "<b>0" not in text
    assert "and 10 more" in text
    verification.record(table, [], NOW)
    assert "30 difference(s)" not in table.with_suffix(".html").read_text()


def test_a_page_that_was_changed_is_left_as_it_is(table):
    page = table.with_suffix(".html")
    page.write_text("mine")
    verification.record(table, ["s.html differs"], NOW)
    assert page.read_text() == "mine"
    assert verification.outcome_file(table).is_file()


def test_a_damaged_manifest_is_an_error(table):
    table.with_suffix(".manifest.json").write_text('{"key": "k", "files": {}, "seal": "0"}')
    with pytest.raises(AttestationError):
        verification.record(table, [], NOW)
