"""Remove a study's disturbed timings, so that the next run takes them again."""

from __future__ import annotations

import argparse
import shlex

from prunegrid.commands import options_of
from prunegrid.commands.remeasure import remeasure, timings


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
        files, values = map(str, options_of.files(options)), map(shlex.quote, options.config)
        config = ["--configfile", *files] if options.configfile else []
        config += ["--config", *values] if options.config else []
        # Both take as many values as there are: the table must not be one of theirs.
        config += ["--"] if config else []
        command = ["snakemake --cores all", *config, f"results/{options.study}.parquet"]
        print(f"to take them again, with nothing else on the machine: {' '.join(command)}")
    return 0
