"""All samples taken through one block together: each waits where the next linear is to be pruned.

A linear's statistics need its input from every sample before any sample may pass it. So each
sample's forward runs in a thread of its own that stops before an unpruned linear; only one thread
runs at a time, so results do not depend on scheduling.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from prunegrid.common import malloc
from prunegrid.common.errors import PrunegridError
from prunegrid.pruning.input_stats import Accumulator, InputStats


class _Cancelled(Exception):
    """Another sample failed: this one is to stop."""


class _Walk:
    """One sample's forward, in a thread that waits where it is told to."""

    current = threading.local()

    def __init__(self, forward: Callable[[], Tensor]) -> None:
        self._forward = forward
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._cancelled = False
        self.at: str | None = None
        self.inputs: Tensor | None = None
        self.output: Tensor | None = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._go.acquire()
        self.current.walk = self
        try:
            # The switch for gradients belongs to a thread, so it is set again in this one.
            with torch.no_grad():
                if not self._cancelled:
                    self.output = self._forward()
        except _Cancelled:
            pass
        except BaseException as error:
            self.error = error
        self.at = self.inputs = None
        self._back.release()

    def resume(self) -> None:
        """Let the sample run to its next stop (`at`) or to its end (`at` is None)."""
        self._go.release()
        self._back.acquire()
        if self.error is not None:
            raise self.error

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
        self._thread.join()


def prune_as_inputs_arrive(
    linears: Mapping[str, nn.Module],
    forwards: list[Callable[[], Tensor]],
    needs: str,
    prune: Callable[[str, nn.Module, InputStats], None],
    *,
    keep_outputs: bool,
) -> list[Tensor]:
    """Return each sample's output of a block whose linears are pruned as their inputs arrive.

    Args:
        linears: the block's linears, full name → module.
        forwards: one call a sample that runs the block.
        needs: "input_norms" or "hessian".
        prune: prunes a linear in place, given its name, module and statistics.
        keep_outputs: False ends every sample at the last linear and returns no outputs.

    Raises:
        PrunegridError: samples reach the linears in different orders, or a linear is not reached.
    """
    waiting = dict(linears)
    malloc.share_one_arena()

    def look(name: str, module: nn.Module, args: tuple) -> None:
        if name in waiting:
            _Walk.current.walk.stop(name, args[0])

    handles = [
        module.register_forward_pre_hook(functools.partial(look, name))
        for name, module in linears.items()
    ]
    walks = [_Walk(forward) for forward in forwards]
    try:
        _walk_together(walks, waiting, needs, prune, keep_outputs)
        return [walk.output for walk in walks] if keep_outputs else []
    finally:
        for handle in handles:
            handle.remove()
        for walk in walks:
            walk.cancel()


def _walk_together(
    walks: list[_Walk],
    waiting: dict[str, nn.Module],
    needs: str,
    prune: Callable[[str, nn.Module, InputStats], None],
    keep_outputs: bool,
) -> None:
    """Prune all that waits, in the order in which the samples arrive at it."""
    before: list[Tensor | None] = [None] * len(walks)
    stats = None
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
                sums = sums or Accumulator(needs, walk.inputs.shape[-1], walk.inputs.device)
                sums.add(walk.inputs, f"{name}, calibration sample {sample}")
            before[sample] = walk.inputs
        stats = sums.finish() if sums else stats
        module = waiting.pop(name)
        if not isinstance(stats, InputStats):
            raise PrunegridError("no statistics of its input", where=name)
        prune(name, module, stats)
    if keep_outputs:
        for walk in walks:
            walk.resume()
