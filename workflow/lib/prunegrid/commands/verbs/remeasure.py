"""Remove a study's disturbed timings, so that the next run takes them again."""

from __future__ import annotations

import argparse

from prunegrid.commands import options_of
from prunegrid.commands.remeasure import remeasure, timings
from prunegrid.commands.run import again


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)
    options_of.add_config(parser)
    parser.add_argument("--all", action="store_true", help="remove all of its timings")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    graph = options_of.graph(options)
    removed = remeasure(graph, options.study, every=options.all)
    for text in removed:
        print(f"removed {text}")
    count = len(timings(graph, options.study))
    print(f"{options.study}: {len(removed)} of {count} timings removed")
    if removed:
        command = again(options.study, options_of.files(options), options.config)
        print(f"to take them again, with nothing else on the machine: {command}")
    return 0
