"""List what no study of the config needs any more."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from prunegrid.artifacts.lock import no_live_run
from prunegrid.commands import cli_config, collect_garbage, options_of


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_config(parser)
    parser.add_argument(
        "--delete", action="store_true", help="remove it (refused while a run is live)"
    )
    parser.add_argument(
        "--tables", action="store_true", help="list also what only tables in results/ name"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    graphs = cli_config.stores(options.configfile, options.config)
    others = cli_config.elsewhere(graphs)
    # A run that starts meanwhile could plan with what is about to go.
    with no_live_run() if options.delete else contextlib.nullcontext():
        results = Path("results")
        garbage = collect_garbage.find(graphs, results, besides=others, tables=options.tables)
        if options.delete:
            collect_garbage.remove(garbage)
    for one in garbage:
        part = " (weights)" if one.weights else ""
        print(f"{one.size / 1e6:10.1f} MB  {one.path}{part}  {one.label}")
    size = sum(one.size for one in garbage) / 1e9
    what = "removed" if options.delete else "could go (--delete removes them)"
    print(f"{len(garbage)} folder(s), {size:.2f} GB: {what}")
    return 0
