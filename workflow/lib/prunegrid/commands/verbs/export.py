"""Write a cell's model as a Hugging Face folder, with its card and attestation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

# Why a folder has that form, in which the model takes more bytes than its parts.
SUMMED = (
    "summed: peft has no pruning mask, and an adapter without it would fill the zeros. So the "
    "folder's model is base + masked adapter as plain weights, as evaluated; the parts lie in "
    "parts/"
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    text = "STUDY/NAME/NAME, such as demo/wiki-sparsegpt-2of4/demo-full; "
    text += "or the first digits of weights_sha256"
    parser.add_argument("cell", help=text)
    parser.add_argument("folder", type=Path, help="a folder that does not exist")
    parser.add_argument("--packed", action="store_true", help="without zeros, for prunegrid unpack")
    parser.add_argument("--push", metavar="ORG/NAME", help="upload it to this repository too")


def run(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    from prunegrid.commands import export  # it imports torch, which takes seconds

    if options.push:
        export.require_repository(options.push)
    about = export.export(
        options.cell, options.folder, Path("results"), packed=options.packed, repo=options.push
    )
    print(f"{options.folder}: {about['cell']}, {describe(about)}")
    if about["form"] == "summed":
        print(SUMMED)
    if options.push:
        print(f"uploading to {options.push} …", flush=True)
        print(f"pushed to {export.push(options.folder, options.push)}")
    print(f"to verify it anywhere: prunegrid check {options.folder}")
    return 0


def describe(about: dict[str, Any]) -> str:
    """Return in words the form, size, digest and zeros of an exported folder."""
    weights = about["models"][0]["weights"]
    size = sum(facts["bytes"] for facts in about["files"].values())
    text = f"{about['form']}, {size / 1e6:,.1f} MB, weights {weights['sha256'][:12]}"
    if weights["sparsity_effective"] is not None:
        text += f", {weights['sparsity_effective']:.1%} zeros"
    return text + (f", every group {weights['pattern']}" if weights["nm_valid"] else "")
