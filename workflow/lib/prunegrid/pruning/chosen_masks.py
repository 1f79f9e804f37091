"""Masks that another step has chosen by the same criterion on the same statistics.

Where all inputs are the dense model's, no update changes what a criterion chooses. So a mask that
costs much is chosen by one step, and the steps that refine it or update weights under it take it
on from that step's weights and report.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError
from prunegrid.models import checkpoint
from prunegrid.models.prunable import LazyLinears
from prunegrid.pruning.patterns import count_zeros

# What a step measures of its own weights, and not of the criterion.
MEASURED = ("shape", "zeros", "sparsity", "revived", "output_error")


class ChosenMasks:
    """What a prune step made of each linear: its weights and the criterion's facts.

    Args:
        folder: the step's artifact.
        linears: full linear name → module, of the model that is pruned.
    """

    def __init__(self, folder: Path, linears: Mapping[str, nn.Module]) -> None:
        self._folder = folder
        self._weights = LazyLinears(linears, checkpoint.stored_tensors(folder))
        self._report = file_io.read_json(folder / "prune.json")

    def __call__(self, name: str) -> tuple[Tensor, dict[str, Any]]:
        """Return a linear's pruned weight [d_out, d_in] on the CPU, and the criterion's facts.

        Raises:
            AttestationError: the file holds other zeros than the step reported.
        """
        weight, facts = self._weights[name], self._report[name]
        zeros = count_zeros(weight)
        if zeros != facts["zeros"]:
            raise AttestationError(
                f"the weights hold {zeros} zeros in {name}",
                where=str(self._folder),
                expected=f"{facts['zeros']}, as its step reported",
                remedy="delete the folder and run again",
            )
        return weight, {key: value for key, value in facts.items() if key not in MEASURED}
