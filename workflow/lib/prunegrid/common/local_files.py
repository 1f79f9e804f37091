"""The files of a local source that its step reads, and no others that lie beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.common import model_files
from prunegrid.common.data_formats import files_below
from prunegrid.common.errors import PrunegridError


def of_model(path: Path, where: str) -> list[Path]:
    """Return the files of a model: those of its folder that count, or one `.gguf` file.

    Raises:
        PrunegridError: there is nothing of the kind at the path.
    """
    if not existing(path, where).is_dir():
        if path.suffix != ".gguf":
            what = f"{path} is a file"
            raise PrunegridError(what, where=where, expected="a model folder or a .gguf file")
        return [path]
    return [path / name for name in sorted(model_files.of_folder(path, where))]


def of_data(source: Mapping[str, Any], where: str) -> dict[str, list[Path]]:
    """Return {split: its files}; a single file is the split `all`.

    Args:
        source: path, of a file; or of a folder, and then files: {split: file, folder or pattern
            below it, or a list of these} (or that of `all`; without, all data files in it).

    Raises:
        PrunegridError: a file is missing.
    """
    root, given = existing(Path(source["path"]), where), source.get("files")
    named = given if isinstance(given, dict) else {"all": given}
    if root.is_dir():
        return {split: files_below(root, rules or "", where) for split, rules in named.items()}
    return {split: [existing(root.parent / (n or root), where)] for split, n in named.items()}


def existing(path: Path, where: str) -> Path:
    """Return a path, a leading `~` expanded.

    Raises:
        PrunegridError: there is nothing at it.
    """
    path = path.expanduser()
    if not path.exists():
        raise PrunegridError(
            f"{path} does not exist", where=where, remedy="check the path (and the disk's mount)"
        )
    return path
