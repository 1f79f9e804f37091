"""Vega's scripts as one text, which every page with a chart carries."""

from __future__ import annotations

import contextlib
from pathlib import Path

from prunegrid.artifacts.artifact_folder import read_sealed, sealed
from prunegrid.common.errors import AttestationError
from prunegrid.common.file_io import write_json

# Bundling takes 2 CPU seconds, so the text is cached beside Snakemake's own records; without
# Snakemake's folder nothing is cached.
CACHE = Path(".snakemake/prunegrid-vega.json")


def scripts() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, as vl-convert bundles them."""
    import vl_convert

    version = vl_convert.__version__
    if CACHE.is_file():
        with contextlib.suppress(AttestationError):  # damaged: it is made again
            cached = read_sealed(CACHE)
            if cached.get("vl_convert") == version and "seal" in cached:
                return cached["scripts"]
    text = vl_convert.javascript_bundle()
    if CACHE.parent.is_dir():
        with contextlib.suppress(OSError):  # a full disk is no reason to have no page
            write_json(CACHE, sealed({"vl_convert": version, "scripts": text}))
    return text
