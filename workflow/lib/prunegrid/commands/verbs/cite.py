"""Print how a study's table was made, and BibTeX of the works that it stands on."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

from prunegrid.commands import options_of
from prunegrid.tables import citations, methods_text, study_tables


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status.

    BibTeX reads over all that is printed before the entries.
    """
    tables = study_tables.read(options.study, Path("results"))
    used = citations.cited(tables)
    for paragraph in methods_text.paragraphs(tables, used):
        # Names and keys are not broken: a line may be longer.
        print(textwrap.fill(paragraph, 100, break_long_words=False, break_on_hyphens=False) + "\n")
    print(citations.bibtex(used), end="")
    return 0
