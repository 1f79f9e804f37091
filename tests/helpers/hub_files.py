"""The files of a repository of the test hub, as a hub lists them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

LARGE = (".bin", ".safetensors", ".parquet", ".gz", ".h5", ".gguf")


def commit_of(folder: Path) -> str:
    """Return the commit of a repository: a digest over its files."""
    digest = hashlib.sha1()
    for path in files_of(folder):
        digest.update(f"{path.relative_to(folder)} {sha256_of(path)}\n".encode())
    return digest.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Return all files of a repository."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card_of(folder: Path) -> dict:
    """Return the YAML at the head of a repository's README.md."""
    readme = folder / "README.md"
    parts = readme.read_text().split("---") if readme.exists() else []
    return yaml.safe_load(parts[1]) if len(parts) > 2 else {}


def entry_of(path: Path, folder: Path) -> dict:
    """Return a file as the hub lists it."""
    entry = {"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size}
    if path.name.endswith(LARGE):
        entry["lfs"] = {"sha256": sha256_of(path), "size": entry["size"], "pointerSize": 130}
    return entry | {"blobId": git_blob(path)}


def git_blob(path: Path) -> str:
    """Return git's name of a file's content, which is the hub's ETag of a small file."""
    body = path.read_bytes()
    return hashlib.sha1(f"blob {len(body)}\0".encode() + body).hexdigest()
