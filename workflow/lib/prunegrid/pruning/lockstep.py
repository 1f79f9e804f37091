"""Single-pass pruning of a block: all samples wait where the next linear is to be pruned.

A linear's statistics need its input from every sample before any sample may pass it. So each
sample's forward runs in a thread of its own that stops before an unpruned linear; only one thread
runs at a time, so results do not depend on scheduling.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import torch
from torch import Tensor, nn

from prunegrid.common import malloc
from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.input_stats import Accumulator, watching
from prunegrid.pruning.pruner import Pruner
from prunegrid.pruning.replay import Replay


class _Cancelled(Exception):
    """Another sample failed: this one is to stop."""


class _Walk(threading.Thread):
    """One sample's forward, which stops before each linear until it is resumed."""

    def __init__(self, forward: Callable[[], Tensor]) -> None:
        super().__init__(daemon=True)
        self._forward = forward
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._cancelled = False
        self.at: str | None = None
        self.inputs: Tensor | None = None
        self.output: Tensor | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Run the forward; called by `start` in the thread."""
        self._go.acquire()
        try:
            # The switch for gradients belongs to a thread, so it is set again in this one.
            with torch.no_grad():
                if not self._cancelled:
                    self.output = self._forward()
        except _Cancelled:
            pass
        except BaseException as error:
            self._error = error
        self.at = self.inputs = None
        self._back.release()

    def resume(self) -> None:
        """Let the sample run to its next stop (`at`) or to its end (`at` is None)."""
        self._go.release()
        self._back.acquire()
        if self._error is not None:
            raise self._error

    def stop(self, name: str, inputs: Tensor) -> None:
        """Wait, in the sample's own thread, until it is resumed."""
        self.at, self.inputs = name, inputs
        self._back.release()
        self._go.acquire()
        if self._cancelled:
            raise _Cancelled

    def cancel(self) -> None:
        """End the thread wherever it waits."""
        self._cancelled = True
        self._go.release()
        self.join()


def prune_as_inputs_arrive(replay: Replay, index: int, pruner: Pruner) -> None:
    """Prune block `index`'s linears as their inputs arrive, and move all samples past it.

    Raises:
        PrunegridError: samples reach the linears in different orders, or a linear is not reached.
    """
    waiting = dict(replay.linears(index))
    malloc.share_one_arena()

    def see(name: str, args: tuple) -> None:
        if name in waiting:
            threading.current_thread().stop(name, args[0])

    with watching(replay.linears(index), see):
        walks = [_Walk(functools.partial(replay.run, index, s)) for s in replay.samples]
        try:
            _walk_together(walks, waiting, pruner)
            if not replay.is_last(index):
                for walk in walks:
                    walk.resume()
        finally:
            for walk in walks:
                walk.cancel()
    if not replay.is_last(index):
        for sample, walk in enumerate(walks):
            replay.advance(index, sample, walk.output)


def _walk_together(walks: list[_Walk], waiting: dict[str, nn.Module], pruner: Pruner) -> None:
    """Prune the waiting linears in the order in which the samples arrive at them."""
    before: list[Tensor | None] = [None] * len(walks)
    while waiting:
        sums = None
        for sample, walk in enumerate(walks):
            walk.resume()
            name = walks[0].at
            if walk.at is None or walk.at != name:
                raise PrunegridError(
                    f"calibration sample {sample} reaches {walk.at or 'no further linear'}, and "
                    f"sample 0 {name or 'none'}, while {', '.join(waiting)} are not pruned",
                    expected="every sample to reach every linear in the same order",
                    remedy="use propagation sequential",
                )
            # q, k and v are given the very same tensor: its statistics are at hand.
            if walk.inputs is not before[sample]:
                width, device = walk.inputs.shape[-1], walk.inputs.device
                sums = sums or Accumulator(pruner.recipe.needs, width, device)
                sums.add(walk.inputs, f"{name}, calibration sample {sample}")
            before[sample] = walk.inputs
        if sums is not None:
            stats = sums.finish()
        pruner(name, waiting.pop(name), stats)
