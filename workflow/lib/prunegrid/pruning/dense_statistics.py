"""Statistics of a block that is not changed: one pass gives them and moves all samples past it."""

from __future__ import annotations

from prunegrid.pruning.input_stats import Collector, InputStats
from prunegrid.pruning.replay import Replay


def dense_stats(replay: Replay, index: int, needs: str) -> dict[str, InputStats]:
    """Return full linear name → statistics of a block as it is, and move all samples past it."""
    blocks, last = replay.blocks, replay.is_last(index)
    with Collector(blocks.linears[blocks.names[index]], needs, replay.device) as collector:
        for sample in range(len(replay.hidden)):
            # One pass does both, as the block is not changed in between.
            output = collector.run(sample, lambda s=sample: replay.run(index, s), whole=not last)
            if not last:
                replay.advance(index, sample, output)
    return collector.finish()
