"""The training loop: one optimizer, one schedule, one learning rate, from start to end.

The loss is the cross entropy summed over the scored tokens of an optimizer step, divided by their
number, so accumulation changes rounding alone. A run that was killed continues from its last
checkpoint: weights, optimizer state, random state, losses and counters are restored, and the order
of rows is drawn again up to there. On a CPU it ends in the bytes of a run that was never killed.
"""

from __future__ import annotations

import datetime
import itertools
import logging
import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common import malloc
from prunegrid.common.device_meters import peak_memory, synchronize
from prunegrid.finetuning.training import sparsity, state
from prunegrid.finetuning.training.checkpoints import Store
from prunegrid.finetuning.training.distributed import ALONE, World, free_gathered, whole
from prunegrid.finetuning.training.divergence import Diverged, Guard
from prunegrid.finetuning.training.loss import batches_of, casting, mean_loss, summed_loss
from prunegrid.finetuning.training.objectives import Masking
from prunegrid.finetuning.training.run_facts import TrainFacts
from prunegrid.finetuning.training.token_batches import Example, batches, collate, plan, scored
from prunegrid.models.forward import embedding_rows

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A model and the data that it learns, equal for all learning rates that are tried.

    Attributes:
        model: on `device`; its trainable weights in float32.
        examples, dev: rows to learn from, and rows held out (none: nothing is evaluated).
        settings: of the finetune step.
        seed: of the order of rows and of dropout.
        masks: bool [d_out, d_in] by linear, True = kept; zero again after every optimizer step.
        masking: hides tokens of the rows to learn from a masked language model; None of others.
        store: where the state of a run under way is kept; None keeps none.
        world: the processes that train it together.
    """

    model: nn.Module
    examples: list[Example]
    dev: list[Example]
    settings: dict
    pad: int
    seed: int
    device: str
    where: str
    masks: dict[str, Tensor]
    masking: Masking | None
    store: Store | None
    world: World = ALONE

    def weights(self) -> dict[str, nn.Parameter]:
        """Return the weights that are trained, by name; tied ones once."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


def rate_factor(step: int, total: int, warmup: int, schedule: str) -> float:
    """Return the factor on the learning rate at a step: linear warm-up, then constant or linear."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return max(0.0, (total - step) / max(1, total - warmup))


class Loop:
    """One run at one learning rate.

    Args:
        rate: the largest one of the schedule.
        name: of the run in the task's store.
    """

    def __init__(self, task: Task, rate: float, name: str) -> None:
        self.task, self.name = task, name
        self.weights = task.weights()
        self.steps = plan(task.examples, task.settings, task.seed)
        self.facts = TrainFacts(learning_rate=rate)
        self.guard = Guard(embedding_rows(task.model), rate, task.where)
        self.best: dict[str, Tensor] = {}
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()),
            lr=rate,
            weight_decay=task.settings["weight_decay"],
            fused=True,
        )
        # A run that diverged before this one leaves its gradients.
        self.optimizer.zero_grad(set_to_none=True)
        self.mask_weights, self.mask_gradients = sparsity.masker(task.model, task.masks)
        if self.mask_weights is not None:
            self.optimizer.register_step_post_hook(lambda *_: self.mask_weights())

    def run(self) -> TrainFacts:
        """Train up to the weights of the `kept_step`; return the facts of the run.

        Raises:
            Diverged: see `prunegrid.finetuning.training.divergence`.
        """
        task = self.task
        devices = [task.device] if task.device.startswith("cuda") else []
        task.model.train()
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(task.seed)
            if not self._resume():
                self._train()
                if self.best:
                    state.restore(self.weights, self.best)
        self._measure_peak()
        task.model.eval()
        # The hook of the masks makes a cycle of loop and optimizer. Without this, gradients and
        # moments (three times the weights) would stay until a garbage collection.
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer.state.clear()
        malloc.trim()
        return self.facts

    def _train(self) -> None:
        task, facts = self.task, self.facts
        first = facts.steps
        plan_of_steps = batches(task.examples, task.settings, self.steps, task.seed)
        if task.dev and not first:
            self._evaluate()
        hidden = None if task.world.leads else True
        bar = tqdm(total=self.steps, initial=first, disable=hidden, unit="step", desc=self.name)
        with bar:
            for micro in itertools.islice(plan_of_steps, first, None):
                synchronize(task.device)
                began = time.perf_counter()
                self._step(micro)
                synchronize(task.device)
                facts.seconds += time.perf_counter() - began
                self._log_step()
                bar.update()
                is_last = facts.steps == self.steps
                if task.dev and (is_last or self._evaluation_is_due()):
                    self._evaluate()
                if is_last or self._patience_is_over():
                    break
                if task.store is not None and task.world.agreed(task.store.due()):
                    self._save()

    def _step(self, micro: list[list[Example]]) -> None:
        """Make one optimizer step."""
        settings, facts = self.task.settings, self.facts
        warmup, schedule = settings["warmup_steps"], settings["schedule"]
        rate = facts.learning_rate * rate_factor(facts.steps, self.steps, warmup, schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._accumulate(micro)
        if self.mask_gradients is not None:
            self.mask_gradients()
        norm = self._clip()
        facts.losses.append(loss)
        facts.rates.append(rate)
        self.guard.check(facts.losses, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _accumulate(self, micro: list[list[Example]]) -> float:
        """Accumulate the gradients of one optimizer step; return its mean loss."""
        task, device = self.task, self.task.device
        if task.masking is not None:
            rows = [row for part in micro for row in part]
            rows = iter(task.masking.hide(rows, f"step {self.facts.steps}"))
            micro = [[next(rows) for _ in part] for part in micro]
        parts = batches_of(task.model, micro, task.pad)
        ready = [collate(rows, task.pad, task.settings["loss_on"], device) for rows in parts]
        count = sum(scored(labels) for _, labels in ready)
        total = torch.zeros((), device=device)
        for (inputs, labels), weight in task.world.share(ready):
            with casting(task.settings, device):
                loss = summed_loss(task.model, inputs, labels) / count * weight
            # FSDP averages gradients over processes; this makes it their sum.
            (loss * task.world.size).backward()
            total += loss.detach()
        tokens = sum(len(row) for rows in micro for row in rows)
        self.facts.tokens += tokens
        self.facts.pad_tokens += sum(labels.numel() for _, labels in ready) - tokens
        self.facts.scored_tokens += count
        return task.world.total(total)

    def _clip(self) -> float:
        """Scale the gradient down to the largest norm allowed; return its norm before that."""
        limit = self.task.settings["max_grad_norm"]
        weights = list(self.weights.values())
        return float(whole(nn.utils.clip_grad_norm_(weights, limit, foreach=True)))

    def _log_step(self) -> None:
        """Log a line for a step, with the time that is left at the pace so far."""
        facts = self.facts
        left = facts.seconds / facts.steps * (self.steps - facts.steps)
        log.info(
            "%s: step %d of %d: loss %.4f, learning rate %.3g, %s left",
            self.name,
            facts.steps,
            self.steps,
            facts.losses[-1],
            facts.rates[-1],
            datetime.timedelta(seconds=round(left)),
        )

    def _evaluation_is_due(self) -> bool:
        every = self.task.settings["evaluate_every"]
        return every is not None and self.facts.steps % every == 0

    def _evaluate(self) -> None:
        """Measure the development loss, and copy the weights if it is the best so far."""
        task, facts = self.task, self.facts
        began = time.perf_counter()
        loss = mean_loss(task.model, task.dev, task.settings, task.pad, task.device)
        free_gathered(task.model)
        loss = task.world.agreed(loss)
        facts.dev_seconds += time.perf_counter() - began
        self.guard.check_dev(facts.steps, loss)
        facts.dev_losses.append([facts.steps, loss])
        log.info("%s: after step %d: development loss %.4f", self.name, facts.steps, loss)
        if facts.steps and facts.kept_step == facts.steps:
            # The last step needs no copy: its weights are the model's.
            self.best = {} if facts.steps == self.steps else state.snapshot(self.weights)

    def _patience_is_over(self) -> bool:
        patience = self.task.settings["patience"]
        if patience is None or self.facts.worse_for() < patience:
            return False
        log.info(
            "%s: stopped early at step %d: %d evaluations without a better development loss",
            self.name,
            self.facts.steps,
            patience,
        )
        return True

    def _save(self) -> None:
        """Save a checkpoint from which the run can be resumed."""
        self._measure_peak()
        self._write(state.tensors_of(self.weights, self.best, *self._stateful()))

    def _write(self, tensors: dict[str, Tensor]) -> None:
        """Write tensors and facts to the store, from the leading process alone."""
        if self.task.world.leads:
            self.task.store.save(self.name, tensors, asdict(self.facts))

    def _measure_peak(self) -> None:
        """Record the peak of memory, over a run that was killed before this one as well."""
        peak = peak_memory(self.task.device)
        self.facts.peak_memory_bytes = max(self.facts.peak_memory_bytes, peak)

    def finish(self, diverged: str | None = None) -> None:
        """Save the end of the run, so that a retried job need not train it again.

        Args:
            diverged: how the run diverged; None if it has weights to keep.
        """
        self.facts.diverged = diverged
        if self.task.store is not None:
            names = {} if diverged else self.weights
            self._write({f"kept/{name}": whole(p.detach()) for name, p in names.items()})

    def _resume(self) -> bool:
        """Restore the run's checkpoint, if there is one; return whether the run had ended.

        Raises:
            Diverged: it had ended so.
        """
        saved = self.task.store.load(self.name) if self.task.store is not None else None
        if saved is None:
            return False
        tensors, facts = saved
        self.facts = TrainFacts(**facts)
        if self.facts.diverged:
            raise Diverged(self.facts.diverged, where=self.task.where)
        parts = state.parts_of(tensors)
        if "kept" in parts:
            state.restore(self.weights, parts["kept"])
            return True
        self.facts.resumed_at.append(self.facts.steps)
        log.info("%s: goes on after step %d of %d", self.name, self.facts.steps, self.steps)
        state.restore(self.weights, parts["weight"])
        self.best = state.resume(parts, self.weights, *self._stateful())
        return False

    def _stateful(self) -> tuple[torch.optim.Optimizer, World, str]:
        """Return the last arguments of `state.tensors_of` and `state.resume`."""
        return self.optimizer, self.task.world, self.task.device
