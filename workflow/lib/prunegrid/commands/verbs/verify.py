"""Hash, count and score again what a table names; exit 1 on any difference."""

from __future__ import annotations

import argparse
import logging
from datetime import UTC, datetime
from pathlib import Path

from prunegrid.common.errors import PrunegridError
from prunegrid.tables.page import verification


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("table", type=Path, help="results/<study>.parquet, or its study")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    named = Path("results", f"{options.table}.parquet")
    options.table = named if named.is_file() else options.table
    if not options.table.is_file():
        expected = "results/<study>.parquet, or the study's name"
        raise PrunegridError("there is no such table", where=str(options.table), expected=expected)
    from prunegrid.commands.verify import verify  # it imports torch, which takes seconds

    differences = verify(options.table)
    try:
        verification.record(options.table, differences, datetime.now(UTC))
    except (PrunegridError, OSError) as error:
        logging.warning("the outcome is not written beside the table: %s", error)
    for text in differences:
        print(text)
    verdict = f"{len(differences)} difference(s)" if differences else "verified: no difference"
    print(f"{options.table}: {verdict}")
    return 1 if differences else 0
