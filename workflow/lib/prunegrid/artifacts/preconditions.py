"""Checks that a job has the packages, the code and the user's files that its key was made of."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from prunegrid.artifacts.file_digests import source_digest
from prunegrid.artifacts.keys import code_digest
from prunegrid.common.errors import AttestationError, PrunegridError

_AGAIN = "run again: the artifact then gets a new key"


def check_pins(pins: Mapping[str, str]) -> None:
    """Check that the installed packages are the ones that the artifact's key names.

    Raises:
        PrunegridError: one is missing or of another version (a local suffix such as +cpu apart).
    """
    wrong = []
    for name, version in pins.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed = "not installed"
        if installed.partition("+")[0] != version:
            wrong.append(f"{name} {installed} (pinned: {version})")
    if wrong:
        raise PrunegridError(
            f"the environment does not match its pins: {', '.join(wrong)}",
            where="envs/",
            remedy="run `make env` (or --use-conda), or change the pin in envs/*.yaml",
        )


def check_code(node: Mapping[str, Any]) -> None:
    """Raise AttestationError if the code is not the one that the key was made of.

    A run can take days; an edit meanwhile must not put other bytes under a valid key.
    """
    roots = [Path(root) if root.endswith(".py") else root for root in node["roots"]]
    if code_digest(roots) != node["code"]:
        raise AttestationError(
            "the code was changed while the run went on", where=node["label"], remedy=_AGAIN
        )


def check_source(node: Mapping[str, Any]) -> None:
    """Raise AttestationError if a user's file that is read changed since the key was made."""
    source = node["settings"].get("source", {})
    if "digest" in source and source_digest(source, node["stage"] == "model") != source["digest"]:
        raise AttestationError("it was changed meanwhile", where=source["path"], remedy=_AGAIN)
