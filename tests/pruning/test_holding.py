"""Hidden states between blocks: each sample is given back as it was put, wherever it is held."""

import pytest
import torch

from prunegrid.pruning.holding import Boundary, Storage

COUNT = 5


@pytest.mark.parametrize("place", ["device", "cpu", "disk"])
@pytest.mark.parametrize("chunk", [1, 2, COUNT])
@pytest.mark.parametrize(
    "before,after",
    [((1, 4, 3), (1, 12, 3)), ((1, 12, 3), (1, 4, 3)), ((1, 4, 3), (1, 4, 3))],
    ids=["longer", "shorter", "as long"],
)
def test_samples_of_another_length_take_the_places_of_others_one_by_one(
    place, chunk, before, after, tmp_path
):
    held = Boundary(COUNT, torch.device("cpu"), Storage(place, chunk, tmp_path / "scratch"))
    for sample in range(COUNT):
        held[sample] = torch.full(before, float(sample))
    for sample in range(COUNT):
        assert torch.equal(held[sample], torch.full(before, float(sample)))
        held[sample] = torch.full(after, 10.0 + sample, dtype=torch.bfloat16)
    for sample, found in enumerate(held):
        assert torch.equal(found, torch.full(after, 10.0 + sample, dtype=torch.bfloat16))
