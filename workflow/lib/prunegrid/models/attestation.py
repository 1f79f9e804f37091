"""The digest, zeros and N:M validity of a set of weights, measured on the tensors themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.nm_pattern import parse_nm

# Facts of a WEIGHTS RECORD that older records lack; what they say follows from the others.
SHARES = ("prunable_share", "excluded_share", "router_share", "uncalled_share")
# Groups whose truth values fill a word of numpy's.
WORDS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


class TensorDigest:
    """A digest of one tensor, to which its rows are added in pieces, in order.

    Args:
        dtype: of the tensor.
        shape: of the whole tensor.
    """

    def __init__(self, dtype: torch.dtype, shape: Iterable[int]) -> None:
        self._digest = hashlib.sha256(f"{dtype} {list(shape)} ".encode())

    def add(self, piece: Tensor) -> None:
        """Add the next elements to the digest, row-major."""
        plain = piece.detach().cpu().contiguous()
        self._digest.update(memoryview(plain.reshape(-1).view(torch.uint8).numpy()))

    def hex(self) -> str:
        """Return the hex SHA-256 over dtype, shape and bytes (row-major, little-endian)."""
        return self._digest.hexdigest()


def tensor_sha256(tensor: Tensor) -> str:
    """Return the hex SHA-256 over dtype, shape and bytes (row-major, little-endian) of a tensor."""
    digest = TensorDigest(tensor.dtype, tensor.shape)
    digest.add(tensor)
    return digest.hex()


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return one hex SHA-256 over all named tensors, whatever their order or file layout."""
    return combined_sha256({name: tensor_sha256(tensor) for name, tensor in tensors.items()})


def combined_sha256(digests: Mapping[str, str]) -> str:
    """Return the `weights_sha256` of named tensors from the digest of each."""
    digest = hashlib.sha256()
    for name in sorted(digests):
        digest.update(f"{name} {digests[name]}\n".encode())
    return digest.hexdigest()


def model_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model by their names in its saved files.

    Of tied weights only the one that is saved is named; what is not saved is left out: buffers, and
    positions that a model computes (Marian's).
    """
    unsaved = {*(getattr(model, "all_tied_weights_keys", None) or ())}
    unsaved.update(getattr(model, "_keys_to_ignore_on_save", None) or ())
    return {name: value for name, value in model.state_dict().items() if name not in unsaved}


def nm_violations(weight: Tensor, keep: int, group: int) -> int:
    """Return how many groups of `group` consecutive input columns hold more than `keep` non-zeros.

    Args:
        weight: [d_out, d_in], input columns last.
        keep: N of N:M.
        group: M of N:M.
    """
    if weight.shape[1] % group:
        return weight.shape[0] * -(-weight.shape[1] // group)
    nonzero = (weight.detach() != 0).contiguous()
    if nonzero.is_cpu and group in WORDS:
        # The booleans of a group are the bytes of one integer: its set bits count the non-zeros.
        counts = np.bitwise_count(nonzero.numpy().view(WORDS[group]))
        return int(np.count_nonzero(counts > keep))
    return int((nonzero.reshape(weight.shape[0], -1, group).sum(-1) > keep).sum())


def require_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Check that no tensor holds NaN or infinity.

    Raises:
        PrunegridError: a tensor does.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise PrunegridError(
                f"the tensor {name} holds NaN or infinite values",
                where=where,
                expected="finite weights",
                remedy="the model is broken: use another file or revision of it",
            )


def sparsity_facts(linears: Mapping[str, Tensor], pattern: str | None) -> dict:
    """Return the counts of zeros among prunable weights.

    Args:
        linears: prunable weights by name, each [d_out, d_in].
        pattern: the pattern that the model was pruned to: "N:M", "unstructured" or None (dense).

    Returns:
        prunable_parameters, prunable_zeros, sparsity_prunable (a fraction), and nm_valid: whether
        every group keeps at most N of M (None where the pattern is not N:M).
    """
    total = sum(w.numel() for w in linears.values())
    zeros = sum(int((w == 0).sum()) for w in linears.values())
    valid, keep_and_group = None, parse_nm(pattern)
    if keep_and_group is not None:
        valid = all(nm_violations(w, *keep_and_group) == 0 for w in linears.values())
    return {
        "prunable_parameters": total,
        "prunable_zeros": zeros,
        "sparsity_prunable": zeros / total if total else 0.0,
        "nm_valid": valid,
    }


def require_same(measured: Mapping, recorded: Mapping, where: str) -> None:
    """Check that facts measured on the tensors in memory equal those of the parent's record.

    Raises:
        AttestationError: any fact of `measured` differs from `recorded`.
    """
    for fact, value in measured.items():
        if recorded.get(fact) != value and (fact in recorded or fact not in SHARES):
            raise AttestationError(
                f"the weights in memory have {fact} = {value}",
                where=where,
                expected=f"{recorded.get(fact)}, as its manifest records",
                remedy="the artifact was swapped or damaged: delete it and run again",
            )
