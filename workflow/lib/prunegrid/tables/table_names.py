"""The files of tables by their names, and which one a wrong name may mean."""

from __future__ import annotations

import re
from pathlib import Path

from prunegrid.common.errors import nearest
from prunegrid.config.renamed import successor
from prunegrid.config.validated import Config
from prunegrid.graph.nodes import RESULTS

_BESIDE = ("long", "pairs", "contrasts", "cliffs", "controls", "examples")
SUFFIXES = {
    "evaluations": (
        *("parquet", *(f"{name}.parquet" for name in _BESIDE), "examples.md"),
        *("html", "csv", "md", "tex", "png", "svg", "manifest.json"),
    ),
    "census": (
        *("parquet", "html", "csv", "md", "tex", "png", "svg", "depth.png", "depth.svg"),
        "manifest.json",
    ),
}


def outputs(
    study: str = "{study}", kind: str = "evaluations", results: Path = RESULTS
) -> list[str]:
    """Return the files of a study's table, the Parquet table first."""
    return [f"{results.as_posix()}/{study}.{suffix}" for suffix in SUFFIXES[kind]]


def pattern(config: Config) -> str:
    """Return a regular expression of the names of all tables' files."""
    files = [
        re.escape(Path(path).name)
        for name, study in config.sections["studies"].items()
        for path in outputs(name, study.kind)
    ]
    return "|".join([*files, r"claims\..*"])


def meant_by(name: str, config: Config) -> str:
    """Return what is wrong with the name of a file in results/ that no table has."""
    study, _, suffix = name.partition(".")
    known = config.sections["studies"]
    if study not in known:
        return f"there is no study '{study}'; {successor(study, known)}"
    suffixes = SUFFIXES[known[study].kind]
    return f"a table of {study} has no file '.{suffix}'; {nearest(suffix, suffixes)}"
