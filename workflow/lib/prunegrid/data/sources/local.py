"""Models and data that are files of this machine."""

from __future__ import annotations

from pathlib import Path

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources.fetched import CONFIG_FILES, Fetched, describe, facts, hashes


def model(source: dict, where: str) -> Fetched:
    """Return a local model: a folder as save_pretrained writes it, or one `.gguf` file.

    Raises:
        PrunegridError: there is nothing of the kind at the path.
    """
    path = existing(source["path"], where)
    if path.is_file():
        if path.suffix != ".gguf":
            raise PrunegridError(
                f"{path} is a file", where=where, expected="a model folder or a .gguf file"
            )
        return of_files(source, path, {path.name: file_io.file_sha256(path)})
    return of_files(source, path, hashes(path, model_files(path, where)))


def model_files(folder: Path, where: str) -> set[str]:
    """Return the names of the files of a folder that make up its model.

    Raises:
        PrunegridError: there are no weights, or a part of them is missing.
    """
    from prunegrid.models import weight_files  # torch, which data do without

    found = {path.name for path in folder.iterdir() if path.is_file()}
    layout = weight_files.choose(found, where)
    parts = weight_files.shards(folder / layout.file) if layout.sharded else []
    absent = sorted(set(parts) - found)
    if absent:
        raise PrunegridError(
            f"the index names {', '.join(absent[:3])}, which is missing",
            where=str(folder),
            remedy="copy the folder again",
        )
    return {layout.file, *parts, *found.intersection(CONFIG_FILES)}


def data(source: dict, where: str) -> tuple[dict[str, list[Path]], dict]:
    """Return ({split: [file]}, facts) of local data files; a single file is the split `all`.

    Args:
        source: path, of a file; or of a folder, and then files: {split: file below the folder}
            (or one file).
        where: label for errors.

    Raises:
        PrunegridError: a file is missing.
    """
    root, given = existing(source["path"], where), source.get("files")
    if root.is_dir() and not given:
        raise PrunegridError(
            f"{root} is a folder",
            where=where,
            expected="a file, or a folder with files: {split: file}",
        )
    named = given if isinstance(given, dict) else {"all": given or root}
    base = root if root.is_dir() else root.parent
    splits = {split: [existing(base / name, where)] for split, name in named.items()}
    files = {split: file_io.file_sha256(paths[0]) for split, paths in splits.items()}
    return splits, facts("local", describe(source), resolved(files), None, files)


def existing(path: str | Path, where: str) -> Path:
    """Return the path, which must exist.

    Raises:
        PrunegridError: it does not.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise PrunegridError(
            f"{found} does not exist", where=where, remedy="check the path (and the disk's mount)"
        )
    return found


def of_files(source: dict, place: Path, files: dict[str, str]) -> Fetched:
    """Return what a local source resolves to; the digest of its files stands for a version."""
    record = facts("local", describe(source), resolved(files), None, files)
    return Fetched(place, tuple(files), record)


def resolved(files: dict[str, str]) -> str:
    """Return one digest over named file digests."""
    return "sha256:" + artifact_folder.content_digest({n: {"sha256": h} for n, h in files.items()})
