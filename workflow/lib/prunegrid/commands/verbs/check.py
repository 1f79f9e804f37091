"""Verify an exported folder on its own bytes; exit 1 if it was altered."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.commands.verbs.export import describe


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", type=Path, help="what prunegrid export wrote")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from prunegrid.models import exported_folder  # it imports torch, which takes seconds

    outcome = exported_folder.check(options.folder)
    for text in outcome.differences:
        print(text)
    if outcome.is_edited:
        print(f"{exported_folder.CARD} was edited since the export, as it may be")
    altered = f"{len(outcome.differences)} difference(s)"
    verdict = altered if outcome.differences else f"as exported: {describe(outcome.about)}"
    print(f"{options.folder}: {verdict}")
    return 1 if outcome.differences else 0
