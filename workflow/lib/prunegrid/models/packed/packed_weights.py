"""What a packed model is made of: the form of each linear, bytes in memory, and the digest."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prunegrid.common.errors import PrunegridError
from prunegrid.models import attestation
from prunegrid.models.packed.packed_head import PackedEmbedding
from prunegrid.models.packed.packed_linear import PackedLinear

DENSE, MASK = "dense", "mask"


@dataclass(frozen=True)
class LinearForm:
    """How one prunable linear, or the head, is held in memory.

    Attributes:
        form: "mask" (packed) or "dense".
        values: the type of its values: "float32", "bfloat16" or "int8".
        zeros: the share of its weights that is zero.
        reason: why it is dense; "" where it is packed.
    """

    form: str
    values: str
    zeros: float
    reason: str = ""


@dataclass
class PackedWeights:
    """What a packed model is made of; `load_packed` puts it into `model.packed_weights`.

    Attributes:
        values: the type of values that was asked for.
        kernel: its name (`operators.KERNELS`); None where linears are dense as nothing was built.
        sha256: of the folder's weights (`prunegrid.models.attestation.weights_sha256`).
        forms: full name → form of every prunable linear, and of a head in narrow values.
    """

    values: str
    kernel: str | None
    sha256: str
    forms: dict[str, LinearForm]
    _model: nn.Module = field(repr=False)
    _dtypes: dict[str, torch.dtype] = field(repr=False)

    def resident_bytes(self) -> int:
        """Return the bytes of all tensors that the model holds, each memory once."""
        parts = [*self._model.parameters(), *self._model.buffers()]
        for module in self._model.modules():
            if isinstance(module, (PackedLinear, PackedEmbedding)):
                parts += module.matrix.parts()
            together = getattr(module, "together", None)
            if together is not None:
                parts += together.matrix.parts()
                parts += [] if together.bias is None else [together.bias]
        storages = {part.untyped_storage().data_ptr(): part.untyped_storage() for part in parts}
        return sum(storage.nbytes() for storage in storages.values())

    def dense_sha256(self) -> str:
        """Return the digest of the weights in memory, one after the other expanded.

        It is `sha256` where values lose nothing: exact, float32, or bfloat16 for weights stored so.

        Raises:
            PrunegridError: the model's tensors have other names than those in the files.
        """
        digests = {}
        for name, dtype in self._dtypes.items():
            digests[name] = attestation.tensor_sha256(_tensor(self._model, name).to(dtype))
        return attestation.combined_sha256(digests)


def _tensor(model: nn.Module, name: str) -> Tensor:
    """Return the tensor that a model holds under its name in the files, packed ones expanded."""
    owner, _, leaf = name.rpartition(".")
    try:
        module = model.get_submodule(owner)
        if isinstance(module, (PackedLinear, PackedEmbedding)) and leaf == "weight":
            return module.stored()
        return getattr(module, leaf).detach()
    except AttributeError as error:
        raise PrunegridError(
            f"the model has no tensor {name}",
            where=type(model).__name__,
            expected="the names of its files",
            remedy="save the model with this version of transformers and load that folder",
        ) from error
