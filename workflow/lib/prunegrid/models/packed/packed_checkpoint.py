"""Packing and unpacking of model folders: `prunegrid pack`, `prunegrid unpack`.

A packed folder holds `packed.safetensors` (see `prunegrid.models.packed.container`), the config and
tokenizer files, and `packed.json`: the SHA-256 of the weights
(`prunegrid.models.attestation.weights_sha256`) and of every file. Unpacking compares all of them,
and hashes the weights again from the file that it wrote. Names, dtypes, shapes and bits of the
weights come back, their division into files does not.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.model_files import choose
from prunegrid.models import attestation, checkpoint, weight_files
from prunegrid.models.packed import container
from prunegrid.models.packed.tensor_forms import patterns_of

HEADER = "packed.json"
WEIGHTS = "packed.safetensors"
# Files that go along beside the weights: never code, never weights in other formats.
SUFFIXES = (".json", ".txt", ".model", ".jinja", ".md")


def pack(folder: Path, out: Path) -> dict[str, Any]:
    """Write a plain model folder without its zeros; return {weights_sha256, bytes, dense_bytes}.

    All packed weights are in memory at once. The file is read back and compared.

    Args:
        folder: config, safetensors, tokenizer; with a manifest where it is an artifact.
        out: must not exist.

    Raises:
        PrunegridError: it is no plain model folder, or `out` exists.
        AttestationError: the weights are not those of its manifest.
    """
    _require_new(out)
    require_folder(folder)
    tensors = plain_tensors(folder)
    digest, record = attestation.weights_sha256(tensors), weights_record(folder)
    if record.get("sha256", digest) != digest:
        raise AttestationError(
            f"its weights hash to {digest}", where=str(folder), expected=record["sha256"]
        )
    dense = sum(tensor.nbytes for tensor in tensors.values())
    artifact_folder.require_space(out.parent, dense)
    with artifact_folder.writing(out) as aside:
        kinds = container.write(aside / WEIGHTS, tensors, patterns_of(record.get("pattern")))
        container.require_same(container.read(aside / WEIGHTS), tensors, str(folder))
        for path in companions(folder):
            shutil.copyfile(path, aside / path.name)
        file_io.write_json(
            aside / HEADER,
            {
                "format": container.FORMAT,
                "version": container.VERSION,
                "weights_sha256": digest,
                "files": artifact_folder.list_files(aside),
            },
        )
    size = (out / WEIGHTS).stat().st_size
    return {"weights_sha256": digest, "bytes": size, "dense_bytes": dense, "packed_as": kinds}


def plain_tensors(folder: Path) -> weight_files.LazyTensors:
    """Return the tensors of a plain model folder.

    Raises:
        PrunegridError: its base is quantized, files are missing, or they are no safetensors.
    """
    if checkpoint.is_in_parts(folder):
        raise PrunegridError(
            "its base is quantized, with an adapter beside it",
            where=str(folder),
            expected="plain weights",
            remedy="pack a merged or untuned model: this one is small already",
        )
    checkpoint.check_files(folder)
    layout = choose([path.name for path in folder.iterdir()], str(folder))
    if layout.format != "safetensors":
        raise PrunegridError(
            f"its weights are in {layout.file}", where=str(folder), expected="safetensors"
        )
    return weight_files.LazyTensors(weight_files.files_of(folder, layout))


def unpack(source: Path, out: Path) -> dict[str, Any]:
    """Write the plain model folder that was packed; return {weights_sha256}.

    Args:
        source: a packed folder, or a file in it.
        out: must not exist.

    Raises:
        PrunegridError: it is not whole, or not as its header says; nothing is at `out` then.
    """
    _require_new(out)
    folder = source.parent if source.is_file() else source
    require_folder(folder)
    about = read_header(folder)
    with artifact_folder.writing(out) as aside:
        tensors = dict(container.read(folder / WEIGHTS))
        size = sum(tensor.nbytes for tensor in tensors.values())
        artifact_folder.require_space(out.parent, size)
        container.save(tensors, aside / "model.safetensors", {"format": "pt"})
        for name in about["files"]:
            if name != WEIGHTS:
                shutil.copyfile(folder / name, aside / name)
        digest = checkpoint.file_weights_sha256(aside)
        if digest != about["weights_sha256"]:
            raise AttestationError(
                f"the unpacked weights hash to {digest}",
                where=str(folder),
                expected=f"{about['weights_sha256']}, as {HEADER} says",
                remedy="the folder was changed: pack it or download it again",
            )
    return {"weights_sha256": digest}


def read_header(folder: Path) -> dict[str, Any]:
    """Return a packed folder's header after comparing every file with it.

    Raises:
        PrunegridError: it is no header, or a file that it names is missing, changed, of another
            kind, or outside of the folder.
    """
    about, where = file_io.read_json(folder / HEADER), str(folder / HEADER)
    if isinstance(about, dict) and about.get("version", 1) not in container.READABLE:
        raise PrunegridError(
            f"a packed model of version {about['version']!r}",
            where=where,
            expected=f"{container.FORMAT}, version {container.VERSION}",
            remedy="unpack it with the prunegrid that wrote it, and pack the weights again",
        )
    fits = (
        isinstance(about, dict)
        and about.get("format") == container.FORMAT
        and about.get("version") in container.READABLE
        and isinstance(about.get("weights_sha256"), str)
        and isinstance(about.get("files"), dict)
    )
    if not fits:
        raise PrunegridError(
            "not the header of a packed model",
            where=where,
            expected=f"{container.FORMAT}, version {container.VERSION}, weights_sha256, files",
        )
    for name, facts in about["files"].items():
        if name != WEIGHTS and not _is_companion(name):
            raise PrunegridError(
                f"it names the file {name!r}",
                where=where,
                expected=f"{WEIGHTS}, or one beside it that ends in {', '.join(SUFFIXES)}",
            )
        recorded = facts.get("sha256") if isinstance(facts, dict) else None
        if not (folder / name).is_file():
            raise AttestationError(f"the file {name} is missing", where=str(folder))
        if file_io.file_sha256(folder / name) != recorded:
            raise AttestationError(
                f"the file {name} is not the one that {HEADER} records",
                where=str(folder),
                remedy="it was damaged or swapped: pack it or download it again",
            )
    for name in (WEIGHTS, "config.json"):
        if name not in about["files"]:
            raise PrunegridError(f"it names no {name}", where=where)
    return about


def companions(folder: Path) -> list[Path]:
    """Return the files that go along with packed weights, by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and _is_companion(p.name))


def _is_companion(name: str) -> bool:
    """Return whether a file of this name goes along with packed weights."""
    if Path(name).name != name or "\\" in name or name.startswith(".") or len(name) > 255:
        return False
    kept = name not in (artifact_folder.MANIFEST, HEADER) and not name.endswith(".index.json")
    return kept and name.endswith(SUFFIXES)


def weights_record(folder: Path) -> dict[str, Any]:
    """Return the WEIGHTS RECORD of an artifact's manifest, {} for another folder."""
    path = folder / artifact_folder.MANIFEST
    if not path.exists():
        return {}
    manifest = file_io.read_json(path)
    record = manifest.get("record") if isinstance(manifest, dict) else None
    record = record.get("weights") if isinstance(record, dict) else None
    return record if isinstance(record, dict) else {}


def _require_new(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise PrunegridError(
            "there is something already", where=str(out), remedy="name a folder that does not exist"
        )


def require_folder(folder: Path) -> None:
    """Check that there is such a folder.

    Raises:
        PrunegridError: there is none.
    """
    if not folder.is_dir():
        raise PrunegridError("there is no such folder", where=str(folder))
