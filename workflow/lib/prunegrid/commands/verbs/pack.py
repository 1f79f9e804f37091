"""Write a pruned model folder without its zeros."""

from __future__ import annotations

import argparse
from pathlib import Path

from prunegrid.models.packed.packed_checkpoint import pack


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("folder", type=Path, help="config, safetensors, tokenizer")
    parser.add_argument("out", type=Path, help="a folder that does not exist")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    facts = pack(options.folder, options.out)
    forms = ", ".join(f"{number} {form}" for form, number in facts["packed_as"].items())
    share = facts["bytes"] / facts["dense_bytes"]
    print(f"{options.out}: {facts['bytes'] / 1e6:,.1f} MB, {share:.1%} of the dense weights")
    print(f"tensors: {forms}; weights {facts['weights_sha256']}")
    return 0
