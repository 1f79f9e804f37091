"""How large a model's weights are: exact counts of |w| between edges, read from its files.

A folder's safetensors are read a piece of a tensor at a time, and the model itself is only made as
an empty skeleton (on the meta device) that says what each tensor is: the memory needed is that of
a piece, however large the model. Only parameters are counted. Buffers are not, and a weight that
several modules share is counted once, as it is stored once. The same pass takes the digest of all
tensors.

Bins, for edges e₁ < … < eₖ: zeros (0 and -0), (0, e₁), [e₁, e₂), …, [eₖ, ∞). Edges are the decimal
numbers of the config as float64, and a weight is compared with them exactly: a float32 of 0.001
(0.00100000004…) is not below 0.001, one of 0.000001 (0.00000099999999…) is below it.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common.errors import AttestationError
from prunegrid.models import attestation, checkpoint, loading
from prunegrid.models.parameter_kinds import Place, places

log = logging.getLogger(__name__)

PIECE = 2**22  # elements that are held at once


@dataclass(frozen=True)
class Census:
    """The counts of a folder's weights.

    Attributes:
        tensors: one entry a parameter, in the order of the model: name, kind, stack, block,
            blocks (see `prunegrid.models.parameter_kinds`), parameters, and counts: one for each
            bin, zeros first.
        facts: sha256, precision, parameters, nonzero_parameters, as in a WEIGHTS RECORD.
    """

    tensors: list[dict]
    facts: dict


def take(folder: Path, edges: Sequence[float]) -> Census:
    """Return the census of a plain folder of config and safetensors.

    Args:
        folder: as `save_pretrained` writes it, in one shard or many.
        edges: ascending, above 0.

    Raises:
        PrunegridError: files are missing or damaged, a weight is not finite, or the tensors are
            not those that the config describes.
    """
    checkpoint.check_files(folder)
    model = loading.skeleton(folder)
    stored = _stored(folder)
    _require_described(model, stored, folder)
    known = places(model, stored)
    digests, tensors, dtypes = {}, [], Counter()
    names = [*known, *sorted(stored.keys() - known.keys())]
    for name in tqdm(names, desc="census", unit="tensor", disable=None):
        digests[name], counts, dtype = _measured(stored[name], edges)
        if name in known:
            tensors.append(_entry(name, known[name], counts))
            dtypes[str(dtype)] += sum(counts)
    parameters = sum(entry["parameters"] for entry in tensors)
    facts = {
        "sha256": attestation.combined_sha256(digests),
        "precision": dtypes.most_common(1)[0][0].removeprefix("torch."),
        "parameters": parameters,
        "nonzero_parameters": parameters - sum(entry["counts"][0] for entry in tensors),
    }
    log.info("%s: %d parameters in %d tensors", folder, parameters, len(tensors))
    return Census(tensors, facts)


def count(weights: Tensor, edges: Sequence[float]) -> list[int]:
    """Return how many weights are in each bin: zeros, (0, e₁), [e₁, e₂), …, [eₖ, ∞).

    Args:
        weights: floating point, of any shape.
        edges: ascending, above 0.
    """
    size = weights.detach().abs()
    # Wider types hold every narrower number exactly; float64 is compared as it is.
    size = size if size.dtype == torch.float64 else size.float()
    reached = [weights.numel(), int(torch.count_nonzero(size))]
    reached += [int(torch.count_nonzero(size >= _edge(edge, size.dtype))) for edge in edges]
    return [a - b for a, b in zip(reached, [*reached[1:], 0], strict=True)]


def _edge(edge: float, dtype: torch.dtype) -> Tensor:
    """Return the smallest number of the dtype that is not below an edge."""
    exact = torch.tensor(edge, dtype=torch.float64)
    near = exact.to(dtype)
    if near.double() < exact:
        near = torch.nextafter(near, torch.tensor(math.inf, dtype=dtype))
    return near


def _entry(name: str, place: Place, counts: list[int]) -> dict:
    return {"name": name, **asdict(place), "parameters": sum(counts), "counts": counts}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file: its name there, its shape."""

    path: Path
    name: str
    shape: list[int]

    def pieces(self) -> Iterator[Tensor]:
        """Yield its rows, as many at once as are at most PIECE elements, but at least one.

        The file is opened anew for each: it is mapped, and what was read stays in memory until it
        is closed.
        """
        rows = max(1, PIECE // max(1, math.prod(self.shape[1:])))
        for first in range(0, max(1, self.shape[0]), rows) if self.shape else (None,):
            with safe_open(self.path, framework="pt") as handle:
                piece = (
                    handle.get_tensor(self.name)
                    if first is None
                    else handle.get_slice(self.name)[first : first + rows]
                )
            yield piece
            del piece


def _stored(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of the folder's files by name."""
    found = {}
    for path in checkpoint.weight_files(folder):
        with safe_open(path, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 - not a dict: it cannot be iterated
                found[name] = StoredTensor(path, name, list(handle.get_slice(name).get_shape()))
    return found


def _measured(tensor: StoredTensor, edges: Sequence[float]) -> tuple[str, list[int], torch.dtype]:
    """Return (digest, counts, dtype) of a tensor, of which only a piece is held at a time."""
    counts, digest = [0] * (len(edges) + 2), None
    for piece in tensor.pieces():
        digest = digest or attestation.TensorDigest(piece.dtype, tensor.shape)
        digest.add(piece)
        attestation.require_finite({tensor.name: piece}, str(tensor.path))
        if piece.is_floating_point():
            counts = [a + b for a, b in zip(counts, count(piece, edges), strict=True)]
    return digest.hex(), counts, piece.dtype


def _require_described(model: nn.Module, stored: dict[str, StoredTensor], folder: Path) -> None:
    """Check that the files hold what the config describes: each parameter, and nothing unknown.

    Raises:
        AttestationError: a tensor is missing, unknown, or of another shape.
    """
    named = dict(model.named_parameters(remove_duplicate=False))
    groups: dict[int, list[str]] = {}
    for name, parameter in named.items():
        groups.setdefault(id(parameter), []).append(name)
    faults = {
        "missing": [n[0] for n in groups.values() if not set(n) & stored.keys()],
        "unknown": stored.keys() - named.keys() - dict(model.named_buffers()).keys(),
        "of another shape": [
            n for n in named.keys() & stored.keys() if stored[n].shape != [*named[n].shape]
        ],
    }
    for fault, names in faults.items():
        if names:
            raise AttestationError(
                f"{len(names)} tensors are {fault}: {', '.join(sorted(names)[:3])}",
                where=str(folder),
                expected="exactly the tensors that its config.json describes",
                remedy="the folder is incomplete, or of another model: make it again",
            )
