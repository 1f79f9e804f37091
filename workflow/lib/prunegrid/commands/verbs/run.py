"""Make a study's table with all of this machine."""

from __future__ import annotations

import argparse

from prunegrid.commands import cli_config, options_of
from prunegrid.commands.run import again, command, run_study


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    options_of.add_study(parser)
    options_of.add_config(parser)
    parser.add_argument("--cores", type=int, help="jobs side by side (default: what may be used)")
    parser.add_argument(
        "--memory", type=int, metavar="MB", help="of all jobs (default: the machine's)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    files, values = options_of.files(options), options.config
    cli_config.require_study(options.study, files, values)
    words = command(options.study, files, values, options.cores, options.memory)
    return run_study(options.study, words, again(options.study, files, values))
