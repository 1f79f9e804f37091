"""Write the model folder that was packed."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.models.packed.packed_checkpoint import unpack


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("source", type=Path, help="a packed folder, or a file in it")
    parser.add_argument("out", type=Path, help="a folder that does not exist")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    print(f"{options.out}: weights {unpack(options.source, options.out)['weights_sha256']}")
    return 0
