"""Print a study's table, short."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.commands import options_of
from prunegrid.commands.show import lines


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    print("\n".join(lines(options.study, Path("results"))))
    return 0
