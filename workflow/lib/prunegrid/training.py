"""The training loop: batches of responses behind their prompts, one optimizer, one schedule.

Loss = summed cross entropy over the scored tokens of an optimizer step, divided by their number
(so accumulation changes nothing but rounding). Batches are padded on the left to their longest
row, with positions counted from the attention mask, so that all responses end in the last column
and logits are computed for those columns only.
"""

from __future__ import annotations

import inspect
import logging
import math
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.errors import PrunegridError

log = logging.getLogger(__name__)

IGNORED = -100
# Steps over which a loss far above chance is called divergence.
WATCHED_STEPS = 5


@dataclass(frozen=True)
class Example:
    """One tokenized training row: a prompt and the response to learn."""

    prompt: list[int]
    response: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass
class TrainFacts:
    """What a training run did.

    Attributes:
        losses: mean loss over the scored tokens, for each optimizer step.
        tokens: tokens seen, pads left out.
        scored_tokens: tokens with a loss.
        seconds: wall time of the loop.
        peak_memory_bytes: largest resident (CPU) or allocated (CUDA) memory.
    """

    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0


def peak_memory(device: str) -> int:
    """Return the peak memory in bytes: allocated on CUDA, the process's resident size on CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def synchronize(device: str) -> None:
    """Wait for the accelerator, so that a clock read next is true."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def collate(
    rows: list[Example], pad: int, loss_on: str, device: str
) -> tuple[dict[str, Tensor], Tensor]:
    """Return model inputs and labels, each [batch, longest row], padded on the left.

    Labels are IGNORED on pads and, with loss_on "response", on prompts: placed by length, never
    by token id, so an EOS is learned whatever the pad token is.
    """
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), IGNORED)
    for line, row in enumerate(rows):
        tokens = torch.tensor(row.prompt + row.response)
        start = width - len(tokens)
        ids[line, start:], mask[line, start:] = tokens, 1
        scored = start if loss_on == "all" else width - len(row.response)
        labels[line, scored:] = ids[line, scored:]
    inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions(mask)}
    return {name: t.to(device) for name, t in inputs.items()}, labels.to(device)


def positions(mask: Tensor) -> Tensor:
    """Return position ids that count the unmasked tokens of each row; 0 on pads."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def summed_loss(model: nn.Module, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """Return the summed cross entropy (nats) of the labels that are not IGNORED."""
    accepted = forward_parameters(model)
    inputs = {name: t for name, t in inputs.items() if name in accepted}
    first = int((labels != IGNORED).any(0).to(torch.uint8).argmax())
    # The logits of column j predict column j + 1; the last column predicts nothing.
    keep = labels.shape[1] - max(first - 1, 0)
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = keep
    logits = model(**inputs, use_cache=False).logits[:, -keep:][:, :-1]
    targets = labels[:, -keep:][:, 1:]
    picked = targets != IGNORED
    return F.cross_entropy(logits[picked].float(), targets[picked], reduction="sum")


def forward_parameters(model: nn.Module) -> set[str]:
    """Return the names that the model's forward takes (of the base model below an adapter)."""
    return set(inspect.signature(_inner(model).forward).parameters)


def _inner(model: nn.Module) -> Any:
    """Return the transformers model below an adapter's wrapper."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def rate_factor(step: int, total: int, warmup: int, schedule: str) -> float:
    """Return the factor on the learning rate at a step: linear warm-up, then constant or linear."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    return max(0.0, (total - step) / max(1, total - warmup))


def plan(rows: int, settings: dict) -> int:
    """Return the number of optimizer steps."""
    per_epoch = math.ceil(rows / (settings["batch_size"] * settings["accumulate"]))
    steps = math.ceil(per_epoch * settings["epochs"])
    return steps if settings["max_steps"] is None else min(steps, settings["max_steps"])


def batches(
    examples: list[Example], settings: dict, steps: int, seed: int
) -> Iterator[list[list[Example]]]:
    """Yield the micro-batches of each optimizer step; every epoch is shuffled anew."""
    generator = torch.Generator().manual_seed(seed)
    size = settings["batch_size"]
    per_step = size * settings["accumulate"]
    done = 0
    while done < steps:
        order = torch.randperm(len(examples), generator=generator).tolist()
        for start in range(0, len(order), per_step):
            if done == steps:
                return
            rows = [examples[i] for i in order[start : start + per_step]]
            yield [rows[i : i + size] for i in range(0, len(rows), size)]
            done += 1


def train(
    model: nn.Module,
    examples: list[Example],
    settings: dict,
    *,
    pad: int,
    seed: int,
    device: str,
    where: str,
    after_step: Callable[[], None] | None = None,
    before_clip: Callable[[], None] | None = None,
) -> TrainFacts:
    """Train the parameters that require a gradient, in place.

    Args:
        model: on `device`; its trainable weights in float32.
        settings: of the finetune step.
        seed: of the order of rows and of dropout.
        after_step: called after every optimizer step (it re-applies the masks).
        before_clip: called when a step's gradients are whole (it masks them).

    Returns:
        losses, tokens, seconds and peak memory.

    Raises:
        PrunegridError: the loss or the gradient is not finite, or the loss diverges.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    steps = plan(len(examples), settings)
    if settings["warmup_steps"] >= steps:
        log.warning(
            "%s: %d warm-up steps of %d: the learning rate never reaches learning_rate",
            where,
            settings["warmup_steps"],
            steps,
        )
    optimizer = torch.optim.AdamW(
        trained,
        lr=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        fused=True,
    )
    if after_step is not None:
        optimizer.register_step_post_hook(lambda *_: after_step())
    if settings["gradient_checkpointing"]:
        _inner(model).activation_checkpointing_enable({"use_reentrant": False})
    facts = TrainFacts()
    guard = _Guard(model, settings, where)
    model.train()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    devices = [device] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        synchronize(device)
        started = time.perf_counter()
        plan_of_steps = batches(examples, settings, steps, seed)
        for step, micro in enumerate(tqdm(plan_of_steps, total=steps, disable=None, unit="step")):
            factor = rate_factor(step, steps, settings["warmup_steps"], settings["schedule"])
            for group in optimizer.param_groups:
                group["lr"] = settings["learning_rate"] * factor
            loss = _accumulate(model, micro, settings, pad, device, facts)
            if before_clip is not None:
                before_clip()
            norm = _clip(trained, settings["max_grad_norm"])
            guard.check(step, loss, norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            facts.losses.append(loss)
            log.info("step %d of %d: loss %.4f", step + 1, steps, loss)
        synchronize(device)
        facts.seconds = time.perf_counter() - started
    facts.peak_memory_bytes = peak_memory(device)
    model.eval()
    return facts


def _accumulate(
    model: nn.Module,
    micro: list[list[Example]],
    settings: dict,
    pad: int,
    device: str,
    facts: TrainFacts,
) -> float:
    """Add the gradients of one optimizer step; return its mean loss."""
    ready = [collate(rows, pad, settings["loss_on"], device) for rows in micro]
    # The first column is never predicted.
    scored = sum(int((labels[:, 1:] != IGNORED).sum()) for _, labels in ready)
    total = torch.zeros((), device=device)
    for inputs, labels in ready:
        kind = torch.device(device).type
        cast = torch.autocast(kind, torch.bfloat16) if settings["autocast"] else nullcontext()
        with cast:
            loss = summed_loss(model, inputs, labels) / scored
        loss.backward()
        total += loss.detach()
    facts.tokens += sum(len(row) for rows in micro for row in rows)
    facts.scored_tokens += scored
    return float(total)


def _clip(trained: list[nn.Parameter], limit: float | None) -> float:
    """Return the gradient's norm, having scaled the gradient down to `limit` where it is larger."""
    bound = math.inf if limit is None else limit
    return float(nn.utils.clip_grad_norm_(trained, bound, foreach=True))


class _Guard:
    """Stops a run whose loss is not finite, or stays far above chance."""

    def __init__(self, model: nn.Module, settings: dict, where: str) -> None:
        self.chance = math.log(_inner(model).get_input_embeddings().num_embeddings)
        self.rate, self.where = settings["learning_rate"], where
        self.recent: list[float] = []
        self.bound = 0.0

    def check(self, step: int, loss: float, norm: float) -> None:
        self.recent = [*self.recent, loss][-WATCHED_STEPS:]
        if step == 0:
            self.bound = 2 * max(self.chance, loss)
        mean = sum(self.recent) / len(self.recent)
        fault = ""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            fault = f"loss {loss} and gradient norm {norm}"
        elif len(self.recent) == WATCHED_STEPS and mean > self.bound:
            fault = (
                f"a mean loss of {mean:.2f} over {WATCHED_STEPS} steps (chance {self.chance:.2f})"
            )
        if fault:
            raise PrunegridError(
                f"training diverged at step {step + 1}: {fault}",
                where=self.where,
                expected="a finite, falling loss",
                remedy=f"lower finetune.learning_rate (now {self.rate}) or set max_grad_norm",
            )
