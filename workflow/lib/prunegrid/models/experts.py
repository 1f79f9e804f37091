"""Fused experts: one tensor for all experts of a layer, taken apart into a linear for each expert.

A mixture of experts holds `gate_up_proj` [experts, d_out, d_in] and the like in one module. Such a
module says in `is_transposed`, which transformers' own decorator sets, whether matrices lie as
[d_in, d_out]. If it says nothing the shapes decide, where they leave no doubt. What a pass computes
is compared with that (`prunegrid.pruning.expert_inputs`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn


class ExpertLinear:
    """One expert's matrix, as a linear without a bias; it holds no weights of its own.

    Attributes:
        owner: the module that holds the fused tensor.
        leaf: name of the tensor in it.
        index: of the expert.
        flipped: whether matrices are stored as [d_in, d_out].
    """

    bias = None

    def __init__(self, owner: nn.Module, leaf: str, index: int, flipped: bool) -> None:
        self.owner, self.leaf, self.index, self.flipped = owner, leaf, index, flipped

    @property
    def fused(self) -> Tensor:
        """Return the tensor of all experts, as it is at this moment: blocks come and go."""
        return getattr(self.owner, self.leaf)

    @property
    def weight(self) -> Tensor:
        """Return this expert's part of it, a view as it is stored."""
        return self.fused[self.index]


def experts_of(module: nn.Module) -> dict[str, ExpertLinear]:
    """Return name (tensor's name, index) → linear of all fused experts inside `module`."""
    return {
        f"{name}.{leaf}.{index}" if name else f"{leaf}.{index}": ExpertLinear(
            owner, leaf, index, flipped
        )
        for name, owner in module.named_modules()
        if (flipped := _flipped(owner)) is not None
        for leaf, tensor in fused_tensors(owner).items()
        for index in range(len(tensor))
    }


def fused_tensors(owner: nn.Module) -> dict[str, Tensor]:
    """Return name → tensor [experts, …, …] of those that a module holds itself."""
    convolution = isinstance(owner, (nn.Conv1d, nn.ConvTranspose1d))
    own = {} if convolution else owner.named_parameters(recurse=False)
    return {leaf: tensor for leaf, tensor in dict(own).items() if tensor.dim() == 3}


def linear_named(model: nn.Module, name: str) -> nn.Module | ExpertLinear:
    """Return the linear of a full name, one of fused experts too."""
    tensor, _, index = name.rpartition(".")
    owner, _, leaf = tensor.rpartition(".")
    holder = model.get_submodule(owner)
    flipped = _flipped(holder) if index.isdigit() else None
    if flipped is None or leaf not in fused_tensors(holder):
        return model.get_submodule(name)
    return ExpertLinear(holder, leaf, int(index), flipped)


def weight_of(linear: nn.Module | ExpertLinear) -> Tensor:
    """Return the parameter that a linear's weight is, or is a part of."""
    return linear.fused if isinstance(linear, ExpertLinear) else linear.weight


def stored_name(name: str, linear: nn.Module | ExpertLinear) -> str:
    """Return the name of the tensor in a file that holds a linear's weight."""
    return name.rpartition(".")[0] if isinstance(linear, ExpertLinear) else f"{name}.weight"


def _flipped(owner: nn.Module) -> bool | None:
    """Return whether a module's experts are stored as [d_in, d_out]; None if it has none.

    Where the module does not say it, of one tensor its sizes tell; of two the first reads what the
    second gives, so the sides that meet are as wide, and what is between them is as wide or (gate
    and up in one) half.
    """
    tensors = list(fused_tensors(owner).values())
    if not tensors or len({len(tensor) for tensor in tensors}) > 1:
        return None
    if isinstance(said := getattr(owner, "is_transposed", None), bool):
        return said
    if len(tensors) == 1:
        sizes = (getattr(owner, "output_size", 0), getattr(owner, "input_size", 0))
        shape = tuple(tensors[0].shape[1:])
        return shape != sizes if shape in (sizes, sizes[::-1]) else None
    if len(tensors) > 2:
        return None
    (_, rows, columns), (_, height, width) = tensors[0].shape, tensors[1].shape
    plain = columns == height and rows in (width, 2 * width)
    flipped = rows == width and columns in (height, 2 * height)
    return None if plain == flipped else flipped


def holds_experts(owner: nn.Module) -> bool:
    """Return whether a module holds fused experts itself."""
    return _flipped(owner) is not None


@contextlib.contextmanager
def one_by_one(model: nn.Module) -> Iterator[None]:
    """Have a model multiply by one expert's matrix at a time, inside the context."""
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    before = [(c, c._experts_implementation) for c in configs.values() if _can_choose(c)]
    for config, _ in before:
        config._experts_implementation = "eager"
    try:
        yield
    finally:
        for config, chosen in before:
            config._experts_implementation = chosen


def _can_choose(config: object) -> bool:
    return hasattr(config, "_experts_implementation")
