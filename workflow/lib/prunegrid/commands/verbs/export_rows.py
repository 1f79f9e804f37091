"""Write a study's rows in a format of others: every-eval-ever or ro-crate."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.commands import options_of
from prunegrid.tables import formats, study_tables


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)
    parser.add_argument("--format", required=True, help=" or ".join(formats.names()))
    parser.add_argument("folder", type=Path, help="a folder that does not exist")
    parser.add_argument("--organization", help="who ran the study")
    parser.add_argument("--licence", help="of a crate: an SPDX name, or an address")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    said = formats.Said(options.organization, options.licence)
    tables = study_tables.read(options.study, Path("results"))
    for line in formats.export(tables, options.format, options.folder, said):
        print(line)
    print(f"written: {options.folder}")
    return 0
