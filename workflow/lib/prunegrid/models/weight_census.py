"""Exact counts of a model's weights by their size |w|, read from its files.

The safetensors are read in pieces of a tensor, so one piece is in memory at a time, however large
the model. An empty model on the meta device says what each tensor is. Only parameters are counted.
Buffers are not, and a weight that several modules share is counted once, as it is stored once. The
same pass computes the digest of all tensors.

Bins, for edges e₁ < … < eₖ: zeros (0 and -0), (0, e₁), [e₁, e₂), …, [eₖ, ∞). An edge is the decimal
number of the config as float64, and weights are compared with it exactly: float32's 0.001
(0.00100000004…) is not below 0.001, but its 0.000001 (0.00000099999999…) is below 0.000001.
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

PIECE = 2**22  # elements that are in memory at once


@dataclass(frozen=True)
class Census:
    """The counts of a folder's weights.

    Attributes:
        tensors: one entry for each parameter, in the order of the model: name, kind, stack, block,
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
    place_of = places(model, stored)
    digests, tensors, dtypes = {}, [], Counter()
    names = [*place_of, *sorted(stored.keys() - place_of.keys())]
    for name in tqdm(names, desc="census", unit="tensor", disable=None):
        digests[name], counts, dtype = _measured(stored[name], edges)
        if name in place_of:
            tensors.append(_entry(name, place_of[name], counts))
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
    # float32 holds every number of narrower types exactly; float64 is compared as it is.
    size = size if size.dtype == torch.float64 else size.float()
    at_least = [weights.numel(), int(torch.count_nonzero(size))]
    at_least += [int(torch.count_nonzero(size >= _edge(edge, size.dtype))) for edge in edges]
    return [a - b for a, b in zip(at_least, [*at_least[1:], 0], strict=True)]


def _edge(edge: float, dtype: torch.dtype) -> Tensor:
    """Return the smallest number of the dtype that is not below an edge."""
    exact = torch.tensor(edge, dtype=torch.float64)
    rounded = exact.to(dtype)
    if rounded.double() < exact:
        rounded = torch.nextafter(rounded, torch.tensor(math.inf, dtype=dtype))
    return rounded


def _entry(name: str, place: Place, counts: list[int]) -> dict:
    return {"name": name, **asdict(place), "parameters": sum(counts), "counts": counts}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file: its name there, and its shape."""

    path: Path
    name: str
    shape: list[int]

    def pieces(self) -> Iterator[Tensor]:
        """Yield its rows in order: at most PIECE elements at once, but at least one row.

        The file is opened again for each piece. It is mapped, so its pages stay in memory until it
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
    tensors = {}
    for path in checkpoint.weight_files(folder):
        with safe_open(path, framework="pt") as handle:
            for name in handle.keys():  # noqa: SIM118 - not a dict: it cannot be iterated
                shape = list(handle.get_slice(name).get_shape())
                tensors[name] = StoredTensor(path, name, shape)
    return tensors


def _measured(tensor: StoredTensor, edges: Sequence[float]) -> tuple[str, list[int], torch.dtype]:
    """Return (digest, counts, dtype) of a tensor, read in pieces."""
    counts, digest = [0] * (len(edges) + 2), None
    for piece in tensor.pieces():
        digest = digest or attestation.TensorDigest(piece.dtype, tensor.shape)
        digest.add(piece)
        attestation.require_finite({tensor.name: piece}, str(tensor.path))
        if piece.is_floating_point():
            counts = [a + b for a, b in zip(counts, count(piece, edges), strict=True)]
    return digest.hex(), counts, piece.dtype


def _require_described(model: nn.Module, stored: dict[str, StoredTensor], folder: Path) -> None:
    """Check that the files hold each parameter that the config describes, and nothing else.

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
