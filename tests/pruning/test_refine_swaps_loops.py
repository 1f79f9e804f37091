"""The compiled loops of swaps: threads, folders without a cache, and who imports the compiler."""

import os
import subprocess
import sys

import pytest
import torch

from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import NM, keep_mask, parse_pattern
from prunegrid.pruning.refine import swaps

PATTERNS = {"2:4": parse_pattern("2:4"), "row": parse_pattern("unstructured", 0.6, "row")}
REFINE = """
import sys, torch
{before}
from prunegrid.pruning.refine import swaps
from prunegrid.pruning.input_stats import InputStats
from prunegrid.pruning.patterns import keep_mask, parse_pattern
weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
gram = torch.eye(16) + 0.5
pattern = parse_pattern("2:4")
kept = keep_mask(weight.abs(), pattern)
_, facts = swaps.refine_mask(weight, kept, InputStats(1, torch.ones(16), gram), pattern)
assert facts["swaps"], facts
{after}
"""


def run(code, **variables):
    command, given = [sys.executable, "-c", code], os.environ | variables
    return subprocess.run(command, check=True, env=given, stdout=subprocess.PIPE).stdout.decode()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_any_number_of_threads_makes_the_same_swaps(pattern, monkeypatch):
    pattern, draw = PATTERNS[pattern], torch.Generator().manual_seed(0)
    weight, inputs = (torch.randn(rows, 64, generator=draw) for rows in (37, 200))
    inputs += inputs.roll(1, 1)
    gram, kept = inputs.t() @ inputs, keep_mask(weight.abs(), pattern)
    products = (weight * ~kept) @ gram
    least = torch.zeros(len(weight))
    found = []
    for threads in (1, 2, 5, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        counts = torch.zeros(len(weight), dtype=torch.int64)
        given, ends = (weight, kept, products, gram), (least, 1000, counts)
        if isinstance(pattern, NM):
            found.append((swaps.by_groups(*given, pattern.group, ends), counts))
        else:
            found.append((swaps.by_rows(*given, 8, ends), counts))
    mask, made = found[0]
    assert made.sum() and torch.equal(kept, keep_mask(weight.abs(), pattern))
    for other, counts in found[1:]:
        assert torch.equal(other, mask) and torch.equal(counts, made)


def test_a_disk_that_cannot_be_written_needs_no_cache():
    nowhere = "import numba.core.caching as caching; caching.CacheImpl._locator_classes = []"
    run(REFINE.format(before=nowhere, after=""))


def test_every_cpu_makes_the_same_swaps_of_the_same_numbers():
    """One without vectors, played, and this one."""
    code = """
import torch
from prunegrid.pruning.refine import swaps
draw = torch.Generator().manual_seed(0)
weight, products = (torch.randn(30, 72, generator=draw) for _ in range(2))
gram = torch.randn(72, 72, generator=draw)
gram, kept = gram + gram.t() + 9 * torch.eye(72), torch.rand(30, 72, generator=draw) < 0.5
given, least = (weight, kept, products, gram), torch.zeros(30)
for loop, setting in ((swaps.by_groups, 4), (swaps.by_rows, 8)):
    made = torch.zeros(30, dtype=torch.int64)
    print(loop(*given, setting, (least, 40, made)).nonzero().tolist(), made.tolist())
"""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    told, played = run(code), run(code, **plain)
    assert told == played and "40" in told


def test_a_transposed_weight_is_refined_like_its_copy():
    """As GPT-2's linears hold theirs."""
    pattern, draw = PATTERNS["2:4"], torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(90, 16, generator=draw), torch.randn(16, 8, generator=draw).t()
    stats = InputStats(90, inputs.norm(dim=0), inputs.t() @ inputs)
    kept = keep_mask(weight.abs(), pattern)
    for chosen in (pattern, PATTERNS["row"]):
        one, facts = swaps.refine_mask(weight, kept, stats, chosen)
        other, same = swaps.refine_mask(weight.contiguous(), kept.contiguous(), stats, chosen)
        assert torch.equal(one, other) and facts == same and facts["swaps"]


def test_only_a_step_that_refines_imports_the_compiler():
    none = "assert 'numba' not in sys.modules"
    imported = f"import prunegrid.stages.prune, prunegrid.pruning.refine.swaps; {none}"
    run(REFINE.format(before=imported, after="assert 'numba' in sys.modules"))
