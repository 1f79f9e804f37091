"""Tell how far a study is: cells and steps, what runs, what failed and why."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.artifacts.lock import is_live
from prunegrid.commands import options_of, terminal_table, watch
from prunegrid.commands.progress import Watch


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)
    options_of.add_config(parser)
    text = "keep it on the screen until the run ends; exit 1 if something is still to be made"
    parser.add_argument("--watch", action="store_true", help=text)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    study = Watch(options_of.graph(options), options.study, Path("results"))
    if options.watch:
        return watch.watch(study.snapshot, is_live, terminal_table.console())
    print("\n".join(study.snapshot().lines()))
    return 0
