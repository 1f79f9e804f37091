"""Options that several commands share: a study, and the config with what is laid over it."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.commands import cli_config
from prunegrid.graph.artifact_graph import Graph


def add_study(parser: argparse.ArgumentParser) -> None:
    """Add the name of a study."""
    parser.add_argument("study", help="a name of `studies` in the config")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the options of the config."""
    text = "laid over config.yaml, as by snakemake --configfile"
    several = {"nargs": "+", "default": []}
    parser.add_argument("-c", "--configfile", type=Path, action="append", help=text, **several)
    text = "values over those of the files, as by snakemake --config"
    parser.add_argument("--config", metavar="KEY=VALUE", action="extend", help=text, **several)


def files(options: argparse.Namespace) -> list[Path]:
    """Return the config files of all --configfile options."""
    return [path for together in options.configfile for path in together]


def graph(options: argparse.Namespace) -> Graph:
    """Return the graph of the config, which must have the study."""
    return cli_config.graph(files(options), options.config, options.study)
