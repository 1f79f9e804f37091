"""Exported folders: what `prunegrid.json` says of them, and whether they are still as it says.

`prunegrid.json` lists every file and every tensor by its SHA-256, the WEIGHTS RECORD of what was
evaluated, and the row. Its seal shows damage; it is no signature. The model card, README.md, may be
edited: people add to it, and a hub does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunegrid.artifacts import artifact_folder
from prunegrid.artifacts.artifact_folder import list_files, read_sealed, sealed
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError, explained
from prunegrid.models import attestation, open_checkpoint
from prunegrid.models.packed import packed_checkpoint
from prunegrid.models.weight_files import LazyTensors

HEADER = "prunegrid.json"
CARD = "README.md"
FORMAT = "prunegrid-export"
VERSION = 1
# What git, a hub or its client put beside the files of a repository.
NOT_OURS = (".gitattributes", ".gitignore", ".git", ".cache")
WEIGHTS = ".safetensors"
INTACT = "the file that `prunegrid export` wrote"
AGAIN = "download the folder again, or export the model again (prunegrid export)"


@dataclass(frozen=True)
class Outcome:
    """What a check of a folder has found.

    Attributes:
        about: the content of its `prunegrid.json`.
        differences: a sentence for each; empty if it is as it was exported.
        is_edited: whether its model card was edited, which is no difference.
    """

    about: Mapping[str, Any]
    differences: list[str]
    is_edited: bool


def seal(folder: Path, about: Mapping[str, Any]) -> None:
    """Write a folder's `prunegrid.json`: some facts, and the digests of all files and tensors."""
    files = list_files(folder)
    tensors = {name: _tensors(folder / name) for name in files if name.endswith(WEIGHTS)}
    known = {"format": FORMAT, "version": VERSION, "files": files, "tensors": tensors}
    file_io.write_json(folder / HEADER, sealed({**about, **known}))


def check(folder: Path) -> Outcome:
    """Return how a folder differs from what was exported, hashed and counted on its own bytes.

    Raises:
        PrunegridError: it is no exported folder, or its `prunegrid.json` was changed.
    """
    about = read_header(folder)
    files = {
        name: facts
        for name, facts in list_files(folder).items()
        if name != HEADER and name.split("/")[0] not in NOT_OURS
    }
    differences = [*_file_faults(folder, about, files)]
    # A model whose files differ may not load at all, and its tensors were named.
    for model in () if differences else about["models"]:
        differences += _model_faults(folder, model)
    is_edited = files.get(CARD) != about["files"].get(CARD)
    return Outcome(about, differences, is_edited)


def read_header(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's `prunegrid.json`.

    Raises:
        PrunegridError: there is none, it was changed, or it is of another form.
    """
    path = Path(folder) / HEADER
    if not path.is_file():
        raise PrunegridError(
            f"it has no {HEADER}",
            where=str(folder),
            expected="a folder that `prunegrid export` wrote",
        )
    try:
        about = read_sealed(path)
    except AttestationError as error:  # the folder may come from elsewhere: no run mends it
        what = error.what.replace("the manifest was changed", "it was changed after the export")
        raise AttestationError(what, where=str(path), expected=INTACT, remedy=AGAIN) from error
    if about.get("format") != FORMAT or about.get("version") != VERSION or not _is_whole(about):
        raise PrunegridError(
            "not the record of an exported folder",
            where=str(path),
            expected=f"{FORMAT}, version {VERSION}: files, tensors, models, row",
            remedy=f"{AGAIN}; or check it with the prunegrid that wrote it",
        )
    return about


def _is_whole(about: Mapping[str, Any]) -> bool:
    """Return whether a header has the facts that are read here, each of its type."""
    files, tensors, models = (about.get(key) for key in ("files", "tensors", "models"))
    kinds = {"row": dict, "form": str, "files": dict, "tensors": dict, "models": list}
    kinds |= {artifact_folder.SEAL: str}
    if not all(isinstance(about.get(key), kind) for key, kind in kinds.items()) or not models:
        return False
    names = list(files)  # a name that is none may not fit into a dict
    listed = all(isinstance(facts, dict) and "sha256" in facts for facts in files.values())
    return (
        listed
        and all(isinstance(named, dict) for named in tensors.values())
        and all(
            isinstance(model, dict)
            and isinstance(model.get("weights"), dict)
            and isinstance(model.get("files"), dict)
            and all(_is_inside(place) and name in names for place, name in model["files"].items())
            for model in models
        )
    )


def _is_inside(name: str) -> bool:
    path = Path(name)
    return not path.is_absolute() and ".." not in path.parts


def _file_faults(
    folder: Path, about: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Yield a sentence for every file that is missing, added, renamed or changed, and tensor."""
    listed = about["files"]
    added = {name for name in files if name not in listed}
    for name in sorted(listed):
        if name == CARD or files.get(name) == listed[name]:
            continue
        if name not in files:
            same = [n for n in sorted(added) if files[n]["sha256"] == listed[name]["sha256"]]
            added -= set(same[:1])
            yield f"{name}: renamed to {same[0]}" if same else f"{name}: the file is missing"
        elif name.endswith(WEIGHTS):
            yield from _tensor_faults(folder / name, name, about["tensors"].get(name, {}))
        else:
            yield f"{name}: not the file that was exported"
    for name in sorted(added):
        yield f"{name}: the file was added after the export"


def _tensor_faults(path: Path, name: str, exported: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for every tensor of a changed file that is not as it was exported."""
    try:
        present = _tensors(path)
    except PrunegridError as error:
        yield f"{name}: {error.what}"
        return
    differing = [t for t in sorted(exported | present) if exported.get(t) != present.get(t)]
    for tensor in differing:
        if tensor not in present:
            yield f"{name}: the tensor {tensor} is missing"
        elif tensor not in exported:
            yield f"{name}: the tensor {tensor} was added"
        else:
            yield f"{name}: the tensor {tensor} is not the one that was exported"
    if not differing:
        yield f"{name}: the file was written again, though its tensors are the same"


def _tensors(path: Path) -> dict[str, str]:
    """Return {tensor: its SHA-256} of a file."""
    return {name: attestation.tensor_sha256(tensor) for name, tensor in LazyTensors([path]).items()}


def _model_faults(folder: Path, model: Mapping[str, Any]) -> Iterator[str]:
    """Load a model as evaluations do; yield a sentence if it is not the one that was exported."""
    amiss = AttestationError("it cannot be loaded")
    with tempfile.TemporaryDirectory(prefix="prunegrid-check-") as scratch:
        place = Path(scratch) / "model"
        _lay_out(folder, model, place)
        try:
            with explained(amiss):
                loaded = open_checkpoint.load(place, attest=False)
            attestation.require_same(loaded.record, model["weights"], str(folder))
        except PrunegridError as error:
            yield f"weights: {error.what}" + (f"; expected {error.expected}" * bool(error.expected))


def _lay_out(folder: Path, model: Mapping[str, Any], place: Path) -> None:
    """Put links to a model's files where its artifact had them; unpack a packed model.

    Raises:
        PrunegridError: there is no space for the unpacked weights.
    """
    if model["files"]:
        for name, exported in model["files"].items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to((folder / exported).resolve())
    else:
        packed_checkpoint.unpack(folder, place)
    record = {"record": {"weights": model["weights"]}}
    file_io.write_json(place / artifact_folder.MANIFEST, record)
