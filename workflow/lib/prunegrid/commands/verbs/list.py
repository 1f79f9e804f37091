"""List the studies of the config; or its models, datasets, methods, metrics, …"""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.commands import catalogue, cli_config, options_of


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    known = ", ".join(catalogue.names())
    parser.add_argument("what", nargs="?", default="studies", help=f"one of {known}")
    options_of.add_config(parser)


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    config, _ = cli_config.validated(options_of.files(options), options.config)
    print("\n".join(catalogue.lines(config, options.what, Path("results"))))
    return 0
