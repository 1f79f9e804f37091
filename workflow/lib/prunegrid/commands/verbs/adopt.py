"""Keep reviewed artifacts of a study under changed code or versions."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.artifacts.lock import no_live_run
from prunegrid.commands import adopt, options_of
from prunegrid.graph.pending import pending


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)
    options_of.add_config(parser)
    parser.add_argument("--because", required=True, help="what was reviewed; it stands in the rows")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    graph = options_of.graph(options)
    with no_live_run():
        todo = pending(graph.study_leaves(options.study))
        adopted = adopt.adopt(adopt.find(graph, todo, Path("results")), options.because)
    for path in adopted:
        print(path)
    counts = f"{len(adopted)} artifact(s) adopted; {len(todo) - len(adopted)} to be made"
    print(f"{options.study}: {counts}")
    return 0
