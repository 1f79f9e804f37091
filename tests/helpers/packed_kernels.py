"""The kernels for packed weights, built once a session for all workers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prunegrid.common.errors import PrunegridError
from prunegrid.models.packed import kernel_build, operators


@pytest.fixture(scope="session")
def kernel_cache(tmp_path_factory):
    """A folder for XDG_CACHE_HOME that holds the built kernels; without a compiler tests skip."""
    base = tmp_path_factory.getbasetemp()
    # Workers of one session have a folder each, side by side.
    place = (base.parent if base.name.startswith("popen-") else base) / "kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place))
        patch.delenv(operators.VARIABLE, raising=False)
        try:
            kernel_build.library()
        except PrunegridError as error:
            pytest.skip(str(error))
        operators.load()
    return place


@pytest.fixture
def kernels(kernel_cache, monkeypatch):
    """Kernels are built, and the fastest is in use before and after the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(kernel_cache))
    monkeypatch.delenv(operators.VARIABLE, raising=False)
    yield operators.load()
    operators.use(operators.usable()[0])


@pytest.fixture(params=operators.KERNELS)
def each_kernel(request, kernels):
    """Run the test with each kernel; skip those whose instructions this CPU does not have."""
    if request.param not in operators.usable():
        pytest.skip(f"this CPU has no instructions for {request.param}")
    return operators.use(request.param)


def sparse(rows: int, columns: int, zeros: float, seed: int = 0) -> Tensor:
    """Return a float32 weight [rows, columns] with a share of zeros drawn one by one."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw)
    return weight * (torch.rand(rows, columns, generator=draw) >= zeros)
