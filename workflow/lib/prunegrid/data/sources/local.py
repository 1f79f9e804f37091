"""Models and data that are files of this machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.data_formats import files_below
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources.fetched import CONFIG_FILES, Fetched, facts, hashes

if TYPE_CHECKING:
    from prunegrid.models.weight_files import Layout


def model(source: dict, where: str) -> Fetched:
    """Return a local model: a folder as save_pretrained writes it, or one `.gguf` file.

    Raises:
        PrunegridError: there is nothing of the kind at the path.
    """
    path = _existing(source["path"], where)
    if path.is_dir():
        files = hashes(path, model_files(path, where))
    elif path.suffix == ".gguf":
        files = hashes(path.parent, [path.name])
    else:
        raise PrunegridError(
            f"{path} is a file", where=where, expected="a model folder or a .gguf file"
        )
    return Fetched(path, tuple(files), _facts(source, files))


def model_files(folder: Path, where: str) -> set[str]:
    """Return the names of the files of a folder that make up its model.

    Raises:
        PrunegridError: there are no weights, or a part of them is missing.
    """
    from prunegrid.models import weight_files  # torch, which data do without

    names = {path.name for path in folder.iterdir() if path.is_file()}
    layout = weight_files.choose(names, where)
    parts = weight_parts(folder, layout, names, str(folder))
    return {layout.file, *parts, *names.intersection(CONFIG_FILES)}


def weight_parts(folder: Path, layout: Layout, names: Iterable[str], where: str) -> list[str]:
    """Return the weight files of a layout whose index, if it has one, lies in the folder.

    Args:
        names: the files that there are.

    Raises:
        PrunegridError: one of them is missing.
    """
    from prunegrid.models import weight_files

    parts = weight_files.shards(folder / layout.file) if layout.sharded else [layout.file]
    absent = sorted(set(parts) - set(names))
    if absent:
        raise PrunegridError(
            f"the index names {', '.join(absent[:3])}, which is missing",
            where=where,
            remedy="copy or download the model again, or name another one",
        )
    return parts


def data(source: dict, where: str) -> tuple[dict[str, list[Path]], dict]:
    """Return ({split: [file]}, facts) of local data files; a single file is the split `all`.

    Args:
        source: path, of a file; or of a folder, and then files: {split: file, folder or pattern
            below it, or a list of these} (or that of `all`; without, all data files in it).

    Raises:
        PrunegridError: a file is missing.
    """
    root, given = _existing(source["path"], where), source.get("files")
    named = given if isinstance(given, dict) else {"all": given}
    if root.is_dir():
        splits = {split: files_below(root, rules or "", where) for split, rules in named.items()}
    else:
        splits = {split: [root.parent / (name or root)] for split, name in named.items()}
    files = {}
    for split, paths in splits.items():
        for path in paths:
            label = split if len(paths) == 1 else f"{split}/{path.relative_to(root).as_posix()}"
            files[label] = file_io.file_sha256(_existing(path, where))
    return splits, _facts(source, files)


def _existing(path: str | Path, where: str) -> Path:
    path = Path(path).expanduser()
    if not path.exists():
        raise PrunegridError(
            f"{path} does not exist", where=where, remedy="check the path (and the disk's mount)"
        )
    return path


def _facts(source: dict, files: dict[str, str]) -> dict:
    """Return the record of a local source; the digest of its files stands for a version."""
    listing = {name: {"sha256": digest} for name, digest in files.items()}
    return facts(source, f"sha256:{artifact_folder.content_digest(listing)}", None, files)
