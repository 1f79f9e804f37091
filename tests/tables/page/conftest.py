"""One browser and the pages of made-up studies, for the tests that open pages."""

from __future__ import annotations

import pytest

from prunegrid.tables.page import assembly
from tests.helpers import page_browser, whole_pages


@pytest.fixture(scope="module")
def browser():
    """Yield a browser."""
    driver = page_browser.started()
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def pages(tmp_path_factory):
    """Return a function that writes the page of some facts once and returns its address."""
    folder, written = tmp_path_factory.mktemp("pages"), {}

    def address(name):
        if name not in written:
            written[name] = folder / f"{name}.html"
            written[name].write_text(assembly.page(getattr(whole_pages, name)()), encoding="utf-8")
        return written[name].as_uri()

    return address
