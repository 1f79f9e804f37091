"""The training loop: one optimizer, one schedule, one learning rate, from start to end.

Loss = summed cross entropy over the scored tokens of an optimizer step, divided by their number
(so accumulation changes nothing but rounding). A run that was killed is taken up at its last
checkpoint: weights, optimizer state, random state, losses and counters are restored, the order of
rows is drawn again up to there, and on a CPU the bytes are those of a run that was never killed.
"""

from __future__ import annotations

import datetime
import itertools
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common import malloc
from prunegrid.common.device_meters import peak_memory, synchronize
from prunegrid.finetuning.training import sparsity, state
from prunegrid.finetuning.training.checkpoints import Store
from prunegrid.finetuning.training.distributed import ALONE, World, let_go, local, share_like, whole
from prunegrid.finetuning.training.divergence import Diverged, Guard
from prunegrid.finetuning.training.loss import batches_of, casting, mean_loss, summed_loss
from prunegrid.finetuning.training.rate_schedule import rate_factor
from prunegrid.finetuning.training.run_facts import TrainFacts
from prunegrid.finetuning.training.token_batches import Example, batches, collate, plan, scored
from prunegrid.models.forward import inner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """What is trained on what: the same for every learning rate that is tried.

    Attributes:
        model: on `device`; its trainable weights in float32.
        examples, dev: rows to learn from, and rows held out (none: nothing is evaluated).
        settings: of the finetune step.
        seed: of the order of rows and of dropout.
        masks: bool [d_out, d_in] by linear, True = kept; zero again after every optimizer step.
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
    store: Store | None
    world: World = ALONE

    def weights(self) -> dict[str, nn.Parameter]:
        """Return the weights that are trained, by name; tied ones once."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}


def snapshot(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of weights in main memory, whole."""
    return {name: whole(w.detach()).to("cpu", copy=True) for name, w in weights.items()}


def restore(weights: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> None:
    """Set weights to the values of a snapshot of them, in place."""
    with torch.no_grad():
        for name, weight in weights.items():
            local(weight).copy_(share_like(kept[name], weight))


class Loop:
    """One run at one learning rate.

    Args:
        rate: the peak of the schedule.
        name: of the run in the task's store.
    """

    def __init__(self, task: Task, rate: float, name: str) -> None:
        self.task, self.name = task, name
        self.weights = task.weights()
        self.steps = plan(task.examples, task.settings, task.seed)
        self.facts = TrainFacts(learning_rate=rate)
        self.guard = Guard(
            inner(task.model).get_input_embeddings().num_embeddings, rate, task.where
        )
        self.best: dict[str, Tensor] = {}
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()),
            lr=rate,
            weight_decay=task.settings["weight_decay"],
            fused=True,
        )
        # A run that diverged before this one has left its gradients.
        self.optimizer.zero_grad(set_to_none=True)
        self.mask_weights, self.mask_gradients = sparsity.masker(task.model, task.masks)
        if self.mask_weights is not None:
            self.optimizer.register_step_post_hook(lambda *_: self.mask_weights())

    def run(self) -> TrainFacts:
        """Return what the run did; the weights are then those of its `kept_step`.

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
                    restore(self.weights, self.best)
        self._measure_peak()
        task.model.eval()
        # The hook of the masks makes a cycle of loop and optimizer: without this the gradients and
        # moments, three times the weights, would stay until some garbage collection.
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
                self._tell()
                bar.update()
                last = facts.steps == self.steps
                if task.dev and (last or self._evaluates()):
                    self._evaluate()
                if last or self._has_stopped():
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
        """Add the gradients of one optimizer step; return its mean loss."""
        task, device = self.task, self.task.device
        parts = batches_of(task.model, micro, task.pad)
        ready = [collate(rows, task.pad, task.settings["loss_on"], device) for rows in parts]
        count = sum(scored(labels) for _, labels in ready)
        total = torch.zeros((), device=device)
        for (inputs, labels), weight in task.world.share(ready):
            with casting(task.settings, device):
                loss = summed_loss(task.model, inputs, labels) / count * weight
            # Gradients are averaged over processes, and are to be those of the sum.
            (loss * task.world.size).backward()
            total += loss.detach()
        tokens = sum(len(row) for rows in micro for row in rows)
        self.facts.tokens += tokens
        self.facts.pad_tokens += sum(labels.numel() for _, labels in ready) - tokens
        self.facts.scored_tokens += count
        return task.world.total(total)

    def _clip(self) -> float:
        """Return the gradient's norm, having scaled the gradient down to its limit."""
        limit = self.task.settings["max_grad_norm"]
        weights = list(self.weights.values())
        return float(whole(nn.utils.clip_grad_norm_(weights, limit, foreach=True)))

    def _tell(self) -> None:
        """Write the line of a step, with the time that is left at the pace so far."""
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

    def _evaluates(self) -> bool:
        every = self.task.settings["evaluate_every"]
        return every is not None and self.facts.steps % every == 0

    def _evaluate(self) -> None:
        """Measure the development loss, and keep a copy of the weights where it is the best."""
        task, facts = self.task, self.facts
        began = time.perf_counter()
        loss = mean_loss(task.model, task.dev, task.settings, task.pad, task.device)
        let_go(task.model)
        loss = task.world.agreed(loss)
        facts.dev_seconds += time.perf_counter() - began
        self.guard.check_dev(facts.steps, loss)
        facts.dev_losses.append([facts.steps, loss])
        log.info("%s: after step %d: development loss %.4f", self.name, facts.steps, loss)
        if facts.steps and facts.kept_step == facts.steps:
            # Of the last step no copy is needed.
            self.best = {} if facts.steps == self.steps else snapshot(self.weights)

    def _has_stopped(self) -> bool:
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
        """Save all that the run's further course depends on."""
        self._measure_peak()
        self._write(state.held(self.weights, self.best, *self._state_of()))

    def _write(self, tensors: dict[str, Tensor]) -> None:
        """Write tensors and facts to the store; one process does."""
        if self.task.world.leads:
            self.task.store.save(self.name, tensors, asdict(self.facts))

    def _measure_peak(self) -> None:
        """Record the peak of memory, the larger where a killed run had one before."""
        peak = peak_memory(self.task.device)
        self.facts.peak_memory_bytes = max(self.facts.peak_memory_bytes, peak)

    def finish(self, diverged: str | None = None) -> None:
        """Save how the run ended, so that a job run again need not train it again.

        Args:
            diverged: why it has no weights to keep; None where it has.
        """
        self.facts.diverged = diverged
        if self.task.store is not None:
            names = {} if diverged else self.weights
            self._write({f"kept/{name}": whole(p.detach()) for name, p in names.items()})

    def _resume(self) -> bool:
        """Take up what the store holds of this run; return whether that is its end.

        Raises:
            Diverged: it had ended so.
        """
        found = self.task.store.load(self.name) if self.task.store is not None else None
        if found is None:
            return False
        tensors, facts = found
        self.facts = TrainFacts(**facts)
        if self.facts.diverged:
            raise Diverged(self.facts.diverged, where=self.task.where)
        parts = state.parts_of(tensors)
        if "kept" in parts:
            restore(self.weights, parts["kept"])
            return True
        self.facts.resumed_at.append(self.facts.steps)
        log.info("%s: goes on after step %d of %d", self.name, self.facts.steps, self.steps)
        restore(self.weights, parts["weight"])
        self.best = state.take_up(parts, self.weights, *self._state_of())
        return False

    def _state_of(self) -> tuple[torch.optim.Optimizer, World, str]:
        """Return what else holds state: the optimizer, the processes, the device."""
        return self.optimizer, self.task.world, self.task.device
