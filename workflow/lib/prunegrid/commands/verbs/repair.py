"""Remove damaged artifacts, so that the next run makes them again."""

from __future__ import annotations

import argparse

from prunegrid.commands.repair import repair


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    removed = repair()
    for text in removed:
        print(f"removed {text}")
    print(f"{len(removed)} removed; run the same command again" if removed else "all is whole")
    return 0
