"""The results as a Markdown table."""

from __future__ import annotations

from typing import Any

import environment
import floor
import subject
from lines import Line


def table(
    chosen: list[Line],
    done: dict[str, list[dict[str, Any]]],
    rates: floor.Rates,
    agreements: dict[str, float],
) -> str:
    """Return the table of ratios, and that of memory.

    Args:
        chosen: lines that were measured.
        done: work → its measurements, one a round.
        rates: of matrix products on this machine.
        agreements: line → fraction of weights that both sides keep or drop alike.
    """
    rows = [
        "| work | other, CPU s | prunegrid, CPU s | ratio (each round) | to reach | floor, CPU s | "
        "times the floor | masks equal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in chosen:
        ours, other = done[line.ours], done[line.other]
        mine, theirs = _fewest(ours), _fewest(other)
        pairs = zip(ours, other, strict=True)
        rounds = ", ".join(f"{b['cpu_s'] / a['cpu_s']:.2f}" for a, b in pairs)
        _, method, _, how = line.ours.split()
        least = floor.floor_of(method, how, rates)
        rows.append(
            f"| {line.name} | {theirs:.2f} | {mine:.2f} | {theirs / mine:.2f} ({rounds}) | "
            f"{_verdict(line.target, theirs / mine)} | "
            + (f"{least:.1f} | {mine / least:.2f}" if least else "– | –")
            + f" | {agreements[line.name]:.4%} |"
        )
    return "\n".join([_setting(rates), "", *rows, "", *_memory(done)])


def _fewest(runs: list[dict[str, Any]]) -> float:
    return min(run["cpu_s"] for run in runs)


def _verdict(target: float | None, ratio: float) -> str:
    if target is None:
        return "–"
    return f"{target:g}: {'reached' if ratio >= target else 'missed'}"


def _setting(rates: floor.Rates) -> str:
    """Return what was pruned and how fast the machine multiplies."""
    linear = ", ".join(f"{i}→{o} {r / 1e9:.0f}" for (i, o), r in rates.linear.items())
    gram = ", ".join(f"{d} {r / 1e9:.0f}" for d, r in rates.gram.items())
    return (
        f"OPT-125m's architecture, {subject.SAMPLES} × {subject.LENGTH} tokens, "
        f"{subject.LINEARS} linears, float32, one thread; "
        f"llm-compressor {environment.version('llmcompressor')}.\n"
        f"GFLOP/s of matrix products: linears {linear}; XᵀX {gram}."
    )


def _memory(done: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Return the table of peak resident memory and of what came out."""
    rows = [
        "| run | loaded, MB | peak, MB | CPU s of each round | sparsity of the linears |",
        "| --- | --- | --- | --- | --- |",
    ]
    for work, runs in done.items():
        last = runs[-1]
        seconds = ", ".join(f"{run['cpu_s']:.2f}" for run in runs)
        rows.append(
            f"| {work} | {last['before_mb']:.0f} | {max(r['peak_mb'] for r in runs):.0f} | "
            f"{seconds} | {last['sparsity_lowest']:.4f}…{last['sparsity_highest']:.4f} |"
        )
    return rows
