"""XᵀX, sample by sample: the sum in float64 is the oracle, whatever the width and lengths."""

import pytest
import torch

from prunegrid.gram import GATHERED, WIDE, Gram


def samples(width, lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, width, generator=generator) for length in lengths]


def close(got, inputs):
    x = torch.cat(inputs).double()
    want = x.t() @ x
    assert torch.equal(got, got.t())
    assert torch.allclose(got.double(), want, rtol=1e-4, atol=1e-3 * len(x) ** 0.5)


@pytest.mark.parametrize("width", [1, 7, 300, WIDE, WIDE + 77])
@pytest.mark.parametrize("lengths", [[5], [100, 1, 60], [GATHERED + 3], [GATHERED, 8], [900] * 5])
def test_it_is_the_sum_of_all_samples(width, lengths):
    gram = Gram(width, "cpu")
    inputs = samples(width, lengths)
    for part in inputs:
        gram.add(part)
    close(gram.finish(), inputs)


def test_what_waits_is_a_copy():
    """A model may go on in place with what it has handed over."""
    gram, inputs = Gram(WIDE, "cpu"), samples(WIDE, [40, 50])
    for part in inputs:
        given = part.clone()
        gram.add(given)
        given.fill_(9)
    close(gram.finish(), inputs)


@pytest.mark.parametrize("width", [12, WIDE])
def test_two_sums_added_are_the_sum_of_both(width):
    first, second = samples(width, [30, 11]), samples(width, [GATHERED + 5], seed=1)
    sums = []
    for inputs in (first, second):
        sums.append(Gram(width, "cpu"))
        for part in inputs:
            sums[-1].add(part)
    close((sums[0] + sums[1]).finish(), first + second)
