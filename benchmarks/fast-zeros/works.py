"""What is timed: all linears of a model's shape with random weights, in each form."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.models.packed import operators
from prunegrid.models.packed.packed_matrix import VALUES, PackedMatrix, stacked


@dataclass(frozen=True)
class Shape:
    """The linears of a model.

    Attributes:
        sets: for each set of linears that share an input, their [d_out, d_in].
        blocks: how many blocks are measured; they must not fit the caches.
        whole: by what milliseconds are multiplied to stand for all blocks of the model.
    """

    sets: tuple[tuple[tuple[int, int], ...], ...]
    blocks: int
    whole: float


def llama(hidden: int, kv: int, mlp: int, layers: int, blocks: int) -> Shape:
    """Return the shape of a Llama: q, k and v; o; gate and up; down."""
    sets = (
        ((hidden, hidden), (kv, hidden), (kv, hidden)),
        ((hidden, hidden),),
        ((mlp, hidden), (mlp, hidden)),
        ((hidden, mlp),),
    )
    return Shape(sets, blocks, layers / blocks)


SHAPES = {
    "SmolLM2-135M": llama(576, 192, 1536, layers=30, blocks=30),
    "Llama-1.1B": llama(2048, 256, 5632, layers=22, blocks=4),
}


@dataclass(frozen=True)
class Work:
    """One form of all linears.

    Attributes:
        run: multiplies all of them once.
        read: bytes of weights that it must read.
        is_dense: whether it is one of torch's dense forms, of which the best is compared with.
    """

    run: Callable[[], None]
    read: int
    is_dense: bool = False


@functools.lru_cache(maxsize=1)
def weights(shape: str, zeros: float) -> list[list[Tensor]]:
    """Return the weights of each set of linears, float32 [d_out, d_in]."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for _, linears in itertools.product(range(SHAPES[shape].blocks), SHAPES[shape].sets):
        each = [torch.randn(size, generator=draw) for size in linears]
        found.append([w * (torch.rand(w.shape, generator=draw) >= zeros) for w in each])
    return found


@functools.lru_cache(maxsize=1)
def packed(shape: str, zeros: float) -> dict[str, list[PackedMatrix]]:
    """Return type of values → the packed weights of each set of linears, one below the other."""
    sets = weights(shape, zeros)
    return {v: [stacked([PackedMatrix.of(w, v) for w in each]) for each in sets] for v in VALUES}


@functools.lru_cache(maxsize=1)
def sparse(shape: str, zeros: float) -> tuple[list, list]:
    """Return the weights as CSR of torch and of scipy, those of each set one below the other."""
    joined = [torch.cat(each) for each in weights(shape, zeros)]
    return [w.to_sparse_csr() for w in joined], [scipy.sparse.csr_array(w.numpy()) for w in joined]


def works(shape: str, zeros: float, tokens: int) -> dict[str, Work]:
    """Return name → work for so many tokens.

    Raises:
        PrunegridError: there are no kernels.
    """
    if operators.load() is None:
        raise PrunegridError("there are no kernels", remedy="make kernels says what is missing")
    sets = weights(shape, zeros)
    draw = torch.Generator().manual_seed(1)
    widths = {each[0].shape[1] for each in sets}
    x = {width: torch.randn(tokens, width, generator=draw) for width in widths}
    return dense_works(sets, x) | sparse_works(shape, zeros, x) | packed_works(shape, zeros, x)


def dense_works(sets: list[list[Tensor]], x: dict[int, Tensor]) -> dict[str, Work]:
    """Return torch's dense forms: linears one by one, and those of one input joined."""
    half = [[w.bfloat16() for w in each] for each in sets]
    joined = [[torch.cat(each)] for each in sets]
    x16 = {width: inputs.bfloat16() for width, inputs in x.items()}

    def run(sets: list[list[Tensor]], x: dict[int, Tensor]) -> Callable[[], None]:
        def all_linears() -> None:
            for weight in itertools.chain(*sets):
                F.linear(x[weight.shape[1]], weight)

        return all_linears

    size = sum(w.nbytes for w in itertools.chain(*sets))
    return {
        "torch float32": Work(run(sets, x), size, is_dense=True),
        "torch float32, q/k/v and gate/up joined": Work(run(joined, x), size, is_dense=True),
        "torch bfloat16": Work(run(half, x16), size // 2, is_dense=True),
    }


def sparse_works(shape: str, zeros: float, x: dict[int, Tensor]) -> dict[str, Work]:
    """Return CSR of torch and scipy; none of a dense weight, or of many tokens."""
    if not zeros or len(next(iter(x.values()))) > 1:
        return {}
    csr, scipy_csr = sparse(shape, zeros)
    columns = {width: inputs[0].contiguous() for width, inputs in x.items()}
    arrays = {width: inputs.numpy() for width, inputs in columns.items()}
    parts = [(w.values(), w.col_indices(), w.crow_indices()) for w in csr]

    def torch_csr() -> None:
        for weight in csr:
            torch.mv(weight, columns[weight.shape[1]])

    def of_scipy() -> None:
        for weight in scipy_csr:
            weight @ arrays[weight.shape[1]]

    size = sum(part.nbytes for each in parts for part in each)
    scipy_size = sum(w.data.nbytes + w.indices.nbytes + w.indptr.nbytes for w in scipy_csr)
    return {"torch CSR": Work(torch_csr, size), "scipy CSR": Work(of_scipy, scipy_size)}


def packed_works(shape: str, zeros: float, x: dict[int, Tensor]) -> dict[str, Work]:
    """Return packed weights, by each kernel that this CPU has and each type of values."""
    found = {}
    for kernel, values in itertools.product(operators.usable(), VALUES):
        matrices = packed(shape, zeros)[values]

        def run(kernel: str = kernel, matrices: list[PackedMatrix] = matrices) -> None:
            operators.use(kernel)
            for matrix in matrices:
                matrix.times(x[matrix.columns])

        size = sum(part.nbytes for matrix in matrices for part in matrix.parts())
        found[f"packed {values}, {kernel}"] = Work(run, size)
    return found
