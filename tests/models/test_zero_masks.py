"""The count of filled zeros."""

from __future__ import annotations

import pytest
import torch

from prunegrid.common.errors import AttestationError
from prunegrid.models import zero_masks


def test_free_and_kept_masks_are_counted():
    masks = {"a": torch.tensor([[True, False], [False, True]])}
    base = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    both = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    assert zero_masks.count_filled(masks, [("a", base, both)]) == (0, 1)
    dense = torch.ones(2, 2)  # of a linear that was left dense
    assert zero_masks.count_filled(masks, [("a", base, both), ("b", dense, dense)]) == (0, 1)
    with pytest.raises(AttestationError, match="not of the shape"):
        zero_masks.count_filled(masks, [("a", base[:1], both[:1])])
    with pytest.raises(AttestationError, match="are gone"):
        zero_masks.count_filled(masks, [])
