"""Test published conclusions on finished tables; write results/claims.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.commands import cli_config, options_of
from prunegrid.config.conclusion_checks import require_columns
from prunegrid.tables import finished
from prunegrid.tables.claims import page
from prunegrid.tables.page import claims_section, page_blocks


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_config(parser)
    parser.add_argument("tables", type=Path, nargs="*", help="default: all in results/")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    folder = Path("results")
    config, place = cli_config.validated(options_of.files(options), options.config)
    claims = config.sections["claims"]
    require_columns(claims, finished.facts(), place)
    tables = options.tables or finished.find(folder)
    for outcome in page.write(tables, folder, claims):
        print(f"{outcome.verdict:12} {outcome.name}: {outcome.claim.says}")
    for table in tables:
        page_blocks.rewrite(table, "claims", claims_section.section(folder, table.stem))
    print(f"written: {folder / 'claims.md'}, {folder / 'claims.parquet'}, and the studies' pages")
    return 0
