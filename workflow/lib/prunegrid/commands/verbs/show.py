"""Print a study's table as wide as the terminal, or as CSV."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prunegrid.commands import show, terminal_table

RESULTS = Path("results")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("study", help="the name of a table in results/")
    text = "columns of the Parquet table, or 'SPLIT METRIC'; default: the most telling that fit"
    text += "; between commas, or spaces"
    parser.add_argument("--columns", nargs="+", default=[], metavar="A,B,C", help=text)
    text = "a column, or COLUMN:desc for the largest first"
    parser.add_argument("--sort", metavar="COLUMN", help=text)
    parser.add_argument("--csv", action="store_true", help="write CSV at full precision")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    names = [name.strip() for text in options.columns for name in text.split(",") if name.strip()]
    fields = show.chosen(options.study, RESULTS, names, options.sort)
    if options.csv:
        sys.stdout.write(terminal_table.csv(fields))
        return 0
    console = terminal_table.console()
    show.print_warning(options.study, RESULTS, console)
    show.print_table(fields, console, fit=not names)
    if not names:
        show.print_rest(options.study, RESULTS, console)
    return 0
