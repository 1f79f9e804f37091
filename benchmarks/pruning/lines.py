"""The lines of the table: two works that are compared, and the ratio to reach."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        name: as it is printed.
        ours: "SIDE METHOD PATTERN HOW" of the side that is to be fast.
        other: of the side that it is compared with.
        target: the other's CPU seconds over ours, at least; None where none is set.
        masks_equal: the fraction of weights that both must keep or drop alike; None: any.
    """

    name: str
    ours: str
    other: str
    target: float | None
    masks_equal: float | None = None


def _against_llm_compressor(method: str, pattern: str, target: float) -> Line:
    return Line(
        f"{method} {pattern}, sequential, against llm-compressor",
        f"prunegrid {method} {pattern} sequential",
        f"llm-compressor {method} {pattern} sequential",
        target,
        0.99 if method == "wanda" else None,
    )


def _single_pass(method: str, target: float) -> Line:
    return Line(
        f"{method} 2:4, single-pass, against sequential",
        f"prunegrid {method} 2:4 single-pass",
        f"prunegrid {method} 2:4 sequential",
        target,
    )


def _magnitude(pattern: str, target: float) -> Line:
    return Line(
        f"magnitude {pattern}, against a sort",
        f"prunegrid magnitude {pattern} sequential",
        f"prunegrid magnitude {pattern} sort",
        target,
    )


LINES = (
    _against_llm_compressor("wanda", "2:4", 1.6),
    _against_llm_compressor("wanda", "50%", 1.6),
    _against_llm_compressor("sparsegpt", "2:4", 1.8),
    _against_llm_compressor("sparsegpt", "50%", 1.8),
    _single_pass("wanda", 1.5),
    _single_pass("sparsegpt", 1.25),
    _magnitude("50%", 4.0),
    _magnitude("2:4", 2.5),
    Line(
        "five cells together, against five sequential ones",
        "prunegrid five 2:4 together",
        "prunegrid five 2:4 sequential",
        3.5,
    ),
    Line(
        "a sixth cell by stored Hessians, against alone",
        "prunegrid sparsegpt 2:4 stored",
        "prunegrid sparsegpt 2:4 sequential",
        None,
    ),
    # Wanda's mask, refined; a SparseGPT cell may cost two thirds of it at least.
    Line(
        "a 2:4 cell refined by swaps, against SparseGPT, both by stored Hessians",
        "prunegrid swaps 2:4 stored",
        "prunegrid sparsegpt 2:4 stored",
        1 / 1.5,
    ),
    Line(
        "ALPS 2:4, against SparseGPT, both by stored Hessians",
        "prunegrid alps 2:4 stored",
        "prunegrid sparsegpt 2:4 stored",
        None,
    ),
    Line(
        "a 2:4 cell refitted by sub-module, against linear by linear",
        "prunegrid reconstruct 2:4 submodule",
        "prunegrid reconstruct 2:4 linear",
        None,
    ),
)
