"""Tell why the steps of a cell would run again: which setting, parent, version or code changed."""

from __future__ import annotations

import argparse

from prunegrid.commands import options_of
from prunegrid.commands.explain import lines


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)
    parser.add_argument("cell", help='as the table names it, "wanda / lora"; or a step\'s key')
    options_of.add_config(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    print("\n".join(lines(options_of.graph(options), options.study, options.cell)))
    return 0
