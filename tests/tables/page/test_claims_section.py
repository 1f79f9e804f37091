"""The section on conclusions, and how it comes into a page that is written already."""

import pytest

from prunegrid.artifacts.artifact_folder import read_sealed, sealed
from prunegrid.common.file_io import file_sha256, write_json
from prunegrid.tables.claims.page import COLUMNS
from prunegrid.tables.files import typed_frame
from prunegrid.tables.page import assembly, claims_section, page_blocks
from prunegrid.tables.schema import Column
from tests.helpers import whole_pages


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the outcomes of `prunegrid claims` on two studies."""
    row = {"claim": "<i>wanda", "verdict": "cannot tell", "in_scope": True, "study": "s"}
    rows = [row | {"speaks": vote} for vote in ("for", "for", "against", "neither")]
    rows += [row | {"study": "other", "claim": "x"}, row | {"in_scope": False}]
    columns = [Column(name, dtype, "") for name, dtype in COLUMNS.items()]
    typed_frame(rows, columns).to_parquet(tmp_path / claims_section.FILE)
    return tmp_path


def test_a_study_has_the_conclusions_that_it_says_something_about(folder):
    text = claims_section.section(folder, "s")
    assert "&lt;i&gt;wanda" in text and ">x<" not in text
    assert "<td>4</td><td>2</td><td>1</td>" in text
    assert claims_section.section(folder, "nothing") == ""
    assert claims_section.section(folder / "none", "s") == ""


def test_it_comes_into_a_written_page_and_its_digest_into_the_manifest(folder):
    table, page = folder / "s.parquet", folder / "s.html"
    page.write_text(assembly.page(whole_pages.demo(results=folder / "none")), encoding="utf-8")
    files = {"files": {page.name: file_sha256(page)}}
    write_json(table.with_suffix(".manifest.json"), sealed(files))
    assert page_blocks.rewrite(table, "claims", claims_section.section(folder, "s"))
    assert page.read_text() == assembly.page(whole_pages.demo(results=folder))
    assert 'id="claims"' in page.read_text()
    digest = read_sealed(table.with_suffix(".manifest.json"))["files"][page.name]
    assert digest == file_sha256(page)
    page.write_text("mine")
    assert not page_blocks.rewrite(table, "claims", "")
    assert page.read_text() == "mine"
