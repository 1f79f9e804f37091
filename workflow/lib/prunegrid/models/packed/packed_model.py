"""A transformers model that runs with packed weights: `prunegrid.load_packed`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunegrid.common import malloc
from prunegrid.common.errors import AttestationError, PrunegridError, explained, nearest
from prunegrid.models import attestation, blocks, loading
from prunegrid.models.forward import embedding_rows, run_window
from prunegrid.models.linear_use import OTHER, PART, READ, SHARED
from prunegrid.models.packed import (
    container,
    operators,
    packed_checkpoint,
    packed_head,
    tensor_forms,
)
from prunegrid.models.packed.packed_linear import PackedLinear, recorded_inputs, share_inputs
from prunegrid.models.packed.packed_matrix import VALUES, PackedMatrix, narrowest, packed_bytes
from prunegrid.models.packed.packed_weights import DENSE, MASK, LinearForm, PackedWeights

NO_KERNEL, LARGER = "there is no kernel", "packed it would take more bytes"
EXACT = "exact"
PROBE_TOKENS = 4


def load_packed(folder: str | Path, values: str = EXACT) -> nn.Module:
    """Return a model of transformers whose linears stay packed in memory, in eval mode.

    Those are the prunable ones, and the head where narrow values make it smaller.

    It computes in float32 on the CPU and works with `generate`; it cannot be trained. Weights are
    read and packed one by one, so at most one of them is dense at a time. Without kernels
    (no compiler) the linears are torch's own, with the same values. `model.packed_weights` says
    what was done (`PackedWeights`).

    Args:
        folder: written by `prunegrid pack`, or a plain model folder with safetensors.
        values: "exact" (of each linear the narrowest that loses no bit), "float32", "bfloat16", or
            "int8" with a scale for each row.

    Raises:
        PrunegridError: `values` is none of these, or the folder is no such model.
        AttestationError: the weights are not those that the folder records.
    """
    if values not in (EXACT, *VALUES):
        hint = nearest(values, (EXACT, *VALUES))
        raise PrunegridError(f"values: '{values}'", where="load_packed", remedy=hint)
    return open_packed(Path(folder), values, operators.load())


def open_packed(folder: Path, values: str, kernel: str | None) -> nn.Module:
    """Return the model of `load_packed` by a kernel that products use; None leaves all dense."""
    packed_checkpoint.require_folder(folder)
    # The first import of transformers keeps the frames that it is called from for good, and what
    # they hold: so nothing large is a variable of this function.
    return _load(folder, values, kernel, *_open(folder), loading.skeleton(folder))


def _load(
    folder: Path,
    values: str,
    kernel: str | None,
    tensors: Iterator[tuple[str, Tensor]],
    recorded: str | None,
    skeleton: nn.Module,
) -> nn.Module:
    """Return the model of a folder's tensors.

    Args:
        kernel: that multiplies packed linears; None leaves all dense.
        recorded: the digest that the tensors must have; None for no record.
        skeleton: the model on the meta device.
    """
    read = _Reading(skeleton, values, kernel is not None)
    for name, tensor in tensors:
        read.add(name, tensor)
    read.leave_out_dense_head()
    sha256 = attestation.combined_sha256(read.digests)
    if recorded not in (None, sha256):
        raise AttestationError(
            f"its weights hash to {sha256}", where=str(folder), expected=f"{recorded}, as recorded"
        )
    del tensor
    model = _filled(folder, read)
    _settle(model, read.forms)
    malloc.trim()
    model.packed_weights = PackedWeights(values, kernel, sha256, read.forms, model, read.dtypes)
    return model


def _open(folder: Path) -> tuple[Iterator[tuple[str, Tensor]], str | None]:
    """Return a folder's (name, tensor), read one by one, and the digest that it records."""
    if (folder / packed_checkpoint.HEADER).exists():
        header = packed_checkpoint.read_header(folder)
        return container.read(folder / packed_checkpoint.WEIGHTS), header["weights_sha256"]
    tensors = packed_checkpoint.plain_tensors(folder)
    return iter(tensors.items()), packed_checkpoint.weights_record(folder).get("sha256")


class _Reading:
    """The tensors of a folder as they come: packed, or as they are.

    Attributes:
        head: the head, where it can be packed.
        packed: full name of a linear → its weight [d_out, d_in].
        others: name → tensor of all that from_pretrained is given; a packed linear's place is held
            by zeros that take no memory.
        digests, dtypes: name in the files → of the tensor.
        forms: full name → form of each prunable linear, and of a head in narrow values.
    """

    def __init__(self, skeleton: nn.Module, values: str, has_kernel: bool) -> None:
        self.skeleton = skeleton
        self.packed: dict[str, PackedMatrix] = {}
        self.others: dict[str, Tensor] = {}
        self.digests: dict[str, str] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self.forms: dict[str, LinearForm] = {}
        self._values, self._has_kernel = values, has_kernel
        self._linears = dict(blocks.prunable(skeleton))
        self._reasons = _reasons(skeleton, self._linears)
        self.head = packed_head.find(skeleton)
        if self.head:
            self._linears[self.head.name] = self.head.linear

    def add(self, name: str, tensor: Tensor) -> None:
        """Take the next tensor of the files."""
        self.digests[name] = attestation.tensor_sha256(tensor)
        self.dtypes[name] = tensor.dtype
        linear = name.removesuffix(".weight")
        self.others[name] = tensor
        if self.head and linear == self.head.embedding:
            linear = self.head.name
        for each in (n for n in self._linears if n == linear or n.rpartition(".")[0] == name):
            self._add_linear(each, name, tensor)
        if self.others[name] is tensor:
            # A copy: a tensor of a safetensors file keeps all of the file in memory.
            self.others[name] = tensor.clone()

    def leave_out_dense_head(self) -> None:
        """Drop the head's form if it is torch's own float32 linear, as in any model."""
        form = self.forms.get(self.head.name) if self.head else None
        if form and form.form == DENSE and form.values == "float32":
            del self.forms[self.head.name]

    def _add_linear(self, linear: str, name: str, tensor: Tensor) -> None:
        count = tensor_forms.count(tensor)
        zeros = 1 - count.nonzero / max(1, count.size)
        reason = self._reasons.get(linear, "")
        dense = LinearForm(DENSE, "float32", zeros, reason)
        self.forms[linear] = dense
        if reason or tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            return
        flipped = blocks.is_transposed(self._linears[linear])
        weight = tensor.t() if flipped else tensor
        values = narrowest(weight) if self._values == EXACT else self._values
        size = packed_bytes(*weight.shape, count.nonzero, values, count.signed_zeros)
        if size >= 4 * count.size:  # what torch's float32 linear takes
            self.forms[linear] = LinearForm(DENSE, "float32", zeros, LARGER)
            return
        try:
            matrix = PackedMatrix.of(weight, values)
        except PrunegridError as error:
            facts = {"expected": error.expected, "remedy": error.remedy}
            raise PrunegridError(error.what, where=linear, **facts) from error
        if self._has_kernel:
            self.packed[linear] = matrix
            self.others[name] = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
            self.forms[linear] = LinearForm(MASK, values, zeros)
        else:
            rounded = matrix.dense()
            self.others[name] = rounded.t().contiguous() if flipped else rounded
            self.forms[linear] = LinearForm(DENSE, values, zeros, NO_KERNEL)


def _reasons(model: nn.Module, linears: Mapping[str, Any]) -> dict[str, str]:
    """Return linear → why it stays dense, as far as the model's structure says it."""
    held = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    reasons = {}
    for name, linear in linears.items():
        if not isinstance(linear, nn.Module):
            reasons[name] = PART
        elif held[id(linear.weight)] > 1 or places[id(linear)] > 1:
            reasons[name] = SHARED
        elif type(linear) is not nn.Linear and not blocks.is_transposed(linear):
            reasons[name] = OTHER
    return reasons


def _filled(folder: Path, read: _Reading) -> nn.Module:
    """Return the folder's model with what was read.

    Raises:
        PrunegridError: that is not what its config describes.
    """
    from transformers import GenerationConfig

    model, info = type(read.skeleton).from_pretrained(
        None,
        config=loading.read_config(folder),
        state_dict=read.others,
        dtype="auto",
        output_loading_info=True,
    )
    loading.require_all_tensors(info, folder)
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    if read.head and read.head.embedding and read.head.name in read.packed:
        embedding = packed_head.PackedEmbedding(read.packed[read.head.name])
        model.set_submodule(read.head.embedding, embedding)
    for name in list(read.packed):
        linear = model.get_submodule(name)
        flipped = blocks.is_transposed(linear)
        model.set_submodule(name, PackedLinear(read.packed.pop(name), linear.bias, flipped))
    return loading.compute_in(model.eval(), "float32").requires_grad_(False)


def _settle(model: nn.Module, forms: dict[str, LinearForm]) -> None:
    """Run a few tokens: join linears of one input; a weight that the model reads is dense again.

    Raises:
        PrunegridError: the model cannot run on them.
    """
    names = {module: n for n, module in model.named_modules() if isinstance(module, PackedLinear)}
    if not names:
        return
    window = torch.arange(1, PROBE_TOKENS + 1)[None] % embedding_rows(model)
    stuck = PrunegridError(
        f"the model cannot run on {PROBE_TOKENS} tokens",
        where=type(model).__name__,
        remedy="this architecture cannot run packed: prunegrid unpack gives its dense weights",
    )
    with explained(stuck), torch.no_grad(), recorded_inputs(model) as calls:
        run_window(model, window)
    for linear, name in names.items():
        if linear.reads:
            model.set_submodule(name, _dense(linear))
            forms[name] = LinearForm(DENSE, linear.matrix.value_type, forms[name].zeros, READ)
    share_inputs([call for call in calls if not call[0].reads])


def _dense(linear: PackedLinear) -> nn.Module:
    """Return torch's or transformers' own module with a packed linear's weight."""
    weight = nn.Parameter(linear.stored().to(torch.float32), requires_grad=False)
    if linear.transposed:
        from transformers.pytorch_utils import Conv1D

        dense = Conv1D(linear.out_features, 1)
    else:
        dense = nn.Linear(1, linear.out_features)
        dense.in_features = linear.in_features
    dense.weight, dense.bias = weight, linear.bias
    return dense
