"""Tell why the steps of a cell would run again: which setting, parent, version or code changed."""

from __future__ import annotations

import argparse

from prunegrid.commands import options_of
from prunegrid.commands.explain import lines
from prunegrid.common.errors import PrunegridError


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    text = "STUDY/NAME/NAME, such as demo/wiki-wanda-50/none; or STUDY/ and a step's key"
    parser.add_argument("cell", help=text)
    options_of.add_config(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    options.study, _, names = (part.strip() for part in options.cell.partition("/"))
    graph = options_of.graph(options)
    if not names:
        raise PrunegridError("no cell is named", where=options.cell, expected="STUDY/NAME/NAME")
    print("\n".join(lines(graph, options.study, names)))
    return 0
