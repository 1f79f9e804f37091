"""Models and data that are files of this machine."""

from __future__ import annotations

from pathlib import Path

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io, local_files
from prunegrid.data.sources.fetched import Fetched, facts, hashes


def model(source: dict, where: str) -> Fetched:
    """Return a local model: a folder as save_pretrained writes it, or one `.gguf` file.

    Raises:
        PrunegridError: there is nothing of the kind at the path.
    """
    paths = local_files.of_model(Path(source["path"]), where)
    files = hashes(paths[0].parent, [path.name for path in paths])
    place = paths[0] if paths[0].suffix == ".gguf" else paths[0].parent
    return Fetched(place, tuple(files), _facts(source, files))


def data(source: dict, where: str) -> tuple[dict[str, list[Path]], dict]:
    """Return ({split: [file]}, facts) of local data files; a single file is the split `all`.

    Args:
        source: path and files, as of `local_files.of_data`.

    Raises:
        PrunegridError: a file is missing.
    """
    splits, root = local_files.of_data(source, where), Path(source["path"])
    files = {}
    for split, paths in splits.items():
        for path in paths:
            label = split if len(paths) == 1 else f"{split}/{path.relative_to(root).as_posix()}"
            files[label] = file_io.file_sha256(path)
    return splits, _facts(source, files)


def _facts(source: dict, files: dict[str, str]) -> dict:
    """Return the record of a local source; the digest of its files stands for a version."""
    listing = {name: {"sha256": digest} for name, digest in files.items()}
    return facts(source, f"sha256:{artifact_folder.content_digest(listing)}", None, files)
