"""The works of benchmarks/pruning on the GPU, prunegrid's side alone: wall seconds of each."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PRUNING = Path(__file__).resolve().parent.parent / "pruning"
sys.path.append(str(PRUNING))

import ours  # noqa: E402
import subject  # noqa: E402
import torch  # noqa: E402
from lines import LINES  # noqa: E402
from report import Row, failed, judged  # noqa: E402
from worker import Check, Setting  # noqa: E402

from prunegrid.common.determinism import settle_torch  # noqa: E402
from prunegrid.common.device_meters import peak_memory, synchronize  # noqa: E402

SMALL = {
    "hidden_size": 64,
    "word_embed_proj_dim": 64,
    "ffn_dim": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 256,
    "max_position_embeddings": 128,
}
# One thread's CPU seconds in benchmarks/pruning/README.md: a GPU that takes longer is no use.
CPU_SECONDS = {
    "wanda 2:4 sequential": 27.7,
    "wanda 50% sequential": 27.7,
    "sparsegpt 2:4 sequential": 47.9,
    "sparsegpt 50% sequential": 48.1,
    "wanda 2:4 single-pass": 17.9,
    "sparsegpt 2:4 single-pass": 40.1,
    "magnitude 50% sequential": 0.9,
    "magnitude 2:4 sequential": 0.5,
    "sparsegpt 2:4 stored": 6.8,
    "five 2:4 together": 41.3,
    "five 2:4 sequential": 130.2,
}
# They have no CPU seconds yet to be held against.
UNTIMED = ("reconstruct", "swaps", "alps")


def works() -> list[str]:
    """Return prunegrid's works of the benchmark's lines, each once."""
    sides = dict.fromkeys(side for line in LINES for side in (line.ours, line.other))
    found = [work.removeprefix("prunegrid ") for work in sides if work.startswith("prunegrid ")]
    return [w for w in found if not w.endswith(" sort") and w.split()[0] not in UNTIMED]


@functools.cache
def model_and_tokens(device: str, small: bool):
    """Return the model on its device, the tokens, and copies of the dense weights."""
    settle_torch(1)
    changes = SMALL if small else {}
    model = subject.build(**changes).to(device)
    samples, length = (2, 32) if small else (subject.SAMPLES, subject.LENGTH)
    tokens = subject.draw(samples, length, model.config.vocab_size)
    dense = ours.copies(model)
    # The first products on a GPU load libraries: no work's time.
    ours.job(model, tokens[:1], "sparsegpt 2:4 sequential")()
    return model, tokens, dense


def measure(work: str, setting: Setting) -> Iterator[Row]:
    """Yield the wall seconds of a work; "differs" where the weights have not its pattern."""
    model, tokens, dense = model_and_tokens(setting.device, setting.small)
    ours.restore(model, dense)
    do = ours.job(model, tokens, work)
    method, pattern, _ = work.split()
    taken = []
    if setting.on_gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    for turn in range(ours.REPEATED.get(method, 1)):
        if turn:
            ours.restore(model, dense)
        synchronize(setting.device)
        began = time.perf_counter()
        weights = do()
        synchronize(setting.device)
        taken.append(time.perf_counter() - began)
    line = f"pruning {work}"
    outcome = subject.outcome(weights, pattern)
    halves = outcome["sparsity_lowest"], outcome["sparsity_highest"]
    if outcome["broken_groups"] or max(abs(half - 0.5) for half in halves) > 2e-3:
        yield failed(line, f"not {pattern}", str(outcome))
        return
    most = CPU_SECONDS[work] if setting.on_gpu else None
    facts = {"all": taken, "peak_memory_mb": peak_memory(setting.device) // 2**20}
    yield judged(line, min(taken), high=most, form="{:.2f}", unit=" s", **facts)


CHECKS = [Check(f"pruning {work}", functools.partial(measure, work)) for work in works()]
