"""Tell jobs, hours, memory and disk of a study before anything runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.commands import options_of, plan


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)
    options_of.add_config(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    graph = options_of.graph(options)
    whole = plan.plan(graph, options.study, Path("results"))
    print("\n".join(plan.lines(whole, graph.config.keep_weights)))
    return 0
