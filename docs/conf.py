"""Settings of the documentation's site: `make docs` builds docs/_build/html, offline.

The source is the whole project: the README, the config's page and the benchmarks' are pages too.
"""

from __future__ import annotations

from pathlib import Path

from prunegrid import __version__

project = "prunegrid"
release = __version__
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "README.md",
    "CONTRIBUTING.md",
    "config/README.md",
    "examples/README.md",
]
include_patterns += ["tests/README.md", "benchmarks/*/README.md"]
exclude_patterns = ["docs/_build", ".*", "results", "tests/*/*", "workflow", "envs"]
nitpicky = True
# Anchors as GitHub makes them, so that a link works there and here.
myst_heading_anchors = 4

html_theme = "pydata_sphinx_theme"
html_title = f"prunegrid {release}"
html_copy_source = False
# Summaries of results are fetched, which a browser refuses for pages on a disk.
html_show_search_summary = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "navbar_align": "left",
    "footer_start": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {
    name: []
    for name in ("README", "CONTRIBUTING", "docs/index", "docs/tutorial", "docs/comparison")
}


def setup(app) -> None:
    """Lead from the folder of the site to its first page."""
    app.connect("build-finished", lead_to_the_index)


def lead_to_the_index(app, error) -> None:
    """Write index.html, which leads to the first page."""
    if error is None:
        text = '<meta http-equiv="refresh" content="0; url=docs/index.html">'
        Path(app.outdir, "index.html").write_text(text, encoding="utf-8")
