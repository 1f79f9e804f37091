"""Estimates of the time and the disk that a step takes, from the model's size.

Time is a fixed start (imports, loading) and work over a rate. Work is counted in floating-point
operations: 2 a parameter and token of a forward pass, 6 of a training step (the backward pass costs
two forward ones; Kaplan et al. 2020, section 2.1); attention's own products are left out. RATE and
the starts follow the CPU seconds of the study `demo` on one thread of an AMD EPYC (Zen 5) and of an
Intel Xeon (AVX-512, AMX): by kinds of steps, estimates are 0.7 to 2.8 times those. All estimates
prefer finished steps (`prunegrid.running.history`). ASSUMED stands for numbers that are unknown
before data are read (rows of a split of the hub, tokens).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunegrid.common import plugins
from prunegrid.common.errors import PrunegridError
from prunegrid.graph.nodes import WEIGHTS_MADE
from prunegrid.graph.stage_facts import stage_facts

# Floating-point operations a second, in float32: of a thread of a CPU, of a GPU.
RATE = {"cpu": 7e10, "cuda": 1e13}
# A CPU that multiplies bfloat16 natively tunes so many times faster in it (`compute_dtype: auto`).
HALF = 2
ASSUMED = {"rows": 1000, "tokens": 1024, "answer": 128, "text": 300_000, "items": 2000, "item": 128}
TOKENS_A_WORD = 1.5
# A generated token costs so many of a prompt's: it reads all weights for one row of products.
GENERATED = 4
# Operations a parameter: zeros are counted and weights hashed; a census looks at each weight.
COUNTING = 50
# What else takes time by the size of weights, in operations a parameter at the rate of a CPU: to
# write, measure and hash new weights; to read and unpack those of another format.
WRITING, UNPACKING = 4000, 10_000
STEPS_OF_REFIT = 20  # passes over the samples that refitting a block is worth
# Bytes a parameter that a step writes, by precision.
PACKED = {"nf4": 2, "int8": 2, "bfloat16": 2}
HESSIANS = 2
SMALL = 2_000_000  # bytes of an artifact without weights


@dataclass(frozen=True)
class Step:
    """The facts of a planned or finished step that decide its costs.

    Attributes:
        stage, settings: as of its node.
        parameters: the sum over the weights that it reads, or a model's own; None if unknown, or if
            it reads none.
        samples: tokens of its calibration samples; 0 without.
        rows: {split: rows} of its data, as far as known (`resources.known_rows`).
        pruned: whether the weights that it reads were pruned.
        device: "cpu" or "cuda".
        threads: torch's threads, of all its processes.
        memory: how models are held (`config.profiles.Memory`); None is as a whole.
        precision: the precision that the step before gave to the weights; None if it gave none.
        compute_dtype: the precision of its products; None if it computes none.
    """

    stage: str
    settings: Mapping[str, Any]
    parameters: int | None
    samples: int = 0
    rows: Mapping[str, int] | None = None
    pruned: bool = False
    device: str = "cpu"
    threads: int = 1
    memory: Mapping[str, Any] | None = None
    precision: str | None = None
    compute_dtype: str | None = None

    @property
    def kind(self) -> str | None:
        """Return the method or strategy, if the stage has several."""
        return self.settings.get("method") or self.settings.get("strategy")

    @property
    def turns(self) -> int:
        """Return how many times it starts: once for each of its controls."""
        return len(self.settings.get("controls") or (None,))


def start(step: Step) -> float:
    """Return the seconds before a step computes."""
    return stage_facts(step.stage).start_seconds * step.turns


def work(step: Step) -> float:
    """Return the floating-point operations of a step; 0 if they do not decide its time."""
    if step.stage not in _PASSES or not step.parameters:
        return 0.0
    return step.parameters * (_PASSES[step.stage](step) + COUNTING)


def computing(step: Step) -> float:
    """Return the seconds that a step takes after its start, at RATE; 0 if its work is unknown."""
    count = (step.parameters or 0) if step.stage in _PASSES else 0
    written = count * WRITING if step.stage in WEIGHTS_MADE else 0
    return work(step) / _rate(step) + written / RATE["cpu"]


def _rate(step: Step) -> float:
    if step.device == "cuda":
        return RATE["cuda"]
    is_half = step.stage == "finetune" and step.compute_dtype == "bfloat16"
    return RATE["cpu"] * step.threads * (HALF if is_half else 1)


def seconds(step: Step) -> float:
    """Return the seconds that a step takes, by its start and RATE."""
    return start(step) + computing(step)


def disk_bytes(step: Step, dtype_bytes: int = 4) -> int:
    """Return the bytes of the artifact that a step writes."""
    if step.stage == "model":
        return int((step.parameters or 0) * dtype_bytes) + 2 * SMALL
    if step.stage == "hessians":
        return HESSIANS * (step.parameters or 0)
    if step.stage not in WEIGHTS_MADE or step.parameters is None:
        return SMALL
    each = PACKED.get(precision_of(step.settings), dtype_bytes)
    # Where weights are refitted, the dense ones are read beside them.
    weights = step.parameters / (2 if step.kind == "reconstruct" else 1)
    return int(weights * each) + 2 * SMALL


def precision_of(settings: Mapping[str, Any]) -> str | None:
    """Return the precision of the weights that a step writes; None if it keeps its input's."""
    if settings.get("strategy") == "qlora" and settings.get("adapter") != "merged":
        return settings.get("quantization") or "nf4"
    return settings.get("precision")


# Operations a parameter to invert a Hessian and to sweep over the columns by it.
INVERTING = 4000.0


def _calibrated(step: Step) -> float:
    return 2.0 * step.settings["samples"] * step.settings["length"]


def _summed(step: Step) -> float:
    # A pass, and products of each input with itself that are worth another three.
    return 8.0 * step.samples


def _pruned(step: Step) -> float:
    # Each block runs before and after, which is less than two passes of the whole model. A
    # Hessian's products are worth another pass.
    if not step.samples:
        return 0.0
    solving = _solving(step)
    if step.settings.get("propagation") == "dense":  # by statistics that are there
        return solving
    return (5.0 if solving else 3.0) * step.samples + solving


def _solving(step: Step) -> float:
    """Return the operations a parameter of what uses Hessians or gradients, summed."""
    settings, parts = step.settings, ("refine", "update")
    try:
        facts = [plugins.facts_for(settings["method"], settings["pattern"])]
        facts += [plugins.part_facts(kind, settings[kind]) for kind in parts if settings.get(kind)]
    except (PrunegridError, KeyError):
        return INVERTING  # a user's own method may
    needy = [one for one in facts if one["NEEDS"] in ("hessian", "gradients")]
    return sum(one.get("OPERATIONS", INVERTING) for one in needy)


def _tuned(step: Step) -> float:
    settings = step.settings
    runs = len(settings.get("learning_rates") or [None])
    if settings.get("token_budget"):
        tokens = settings["token_budget"]
    elif settings.get("max_steps"):
        tokens = settings["max_steps"] * settings["accumulate"] * batch_tokens(step)
    else:
        tokens = settings.get("epochs", 1) * _rows(step) * _row_tokens(settings)
    return 6.0 * runs * tokens


def batch_tokens(step: Step) -> float:
    """Return the tokens of the batch that a training step runs at once."""
    return step.settings["batch_size"] * _row_tokens(step.settings)


def _row_tokens(settings: Mapping[str, Any]) -> float:
    """Return the tokens of a learned row or window."""
    if settings.get("window"):
        return settings["window"]
    answer = settings.get("max_summary_tokens") or ASSUMED["answer"]
    return _prompt_tokens(settings) + answer


def _refitted(step: Step) -> float:
    settings = step.settings
    if settings.get("grain", "linear") == "linear":
        return 2.0 * STEPS_OF_REFIT * step.samples
    # Both models run about twice. Of the two, one is trained; its first block at every rate.
    return step.samples * (4.0 + 3.0 * settings["epochs"])


def _generated(step: Step) -> float:
    settings = step.settings
    new = settings["max_new_tokens"] * GENERATED * (settings.get("num_beams") or 1)
    return 2.0 * _rows(step) * (_prompt_tokens(settings) + new)


def _read(step: Step) -> float:
    settings = step.settings
    if settings.get("max_windows"):
        return 2.0 * settings["max_windows"] * settings["window"]
    windows = ASSUMED["text"] / (settings.get("stride") or settings["window"])
    return 2.0 * windows * settings["window"]


def _asked(step: Step) -> float:
    items = [
        (task.get("rows") or ASSUMED["items"]) * (1 + (task.get("shots") or 0))
        for task in step.settings["tasks"]
    ]
    return 2.0 * sum(items) * ASSUMED["item"]


def _written(step: Step) -> float:
    # A few tokens of each item; of options that are sentences, more.
    items = len(step.settings["right_by"]) * ASSUMED["items"]
    return 2.0 * items * (ASSUMED["item"] + 8 * GENERATED)


def _classified(step: Step) -> float:
    # Each text is read once, by a model that is not tuned; the head costs next to nothing.
    items = step.settings.get("rows") or sum((step.rows or {}).values()) or ASSUMED["items"]
    return 2.0 * items * ASSUMED["item"]


def _timed(step: Step) -> float:
    settings = step.settings
    # Once more in a process of its own. The untouched model's parameters are among the step's.
    turns = settings["warmup"] + settings["repetitions"] + 1
    models = 1.5 if step.precision else 1.0  # the untouched one in another format too
    tokens = settings["prompt_tokens"] + GENERATED * settings["new_tokens"]
    return 2.0 * models * settings["batch_size"] * turns * tokens


def _prompt_tokens(settings: Mapping[str, Any]) -> float:
    prompt = settings.get("prompt") or {}
    words = prompt.get("max_words")
    return prompt.get("max_tokens") or (words * TOKENS_A_WORD if words else ASSUMED["tokens"])


def _rows(step: Step) -> int:
    """Return the rows that a step reads: those that it is limited to, or all of its split."""
    held = (step.rows or {}).get(step.settings.get("split"))
    known = [rows for rows in (step.settings.get("rows"), held) if rows]
    return min(known, default=ASSUMED["rows"])


# Operations a parameter, COUNTING apart.
_PASSES = {
    "model": lambda step: UNPACKING,
    "calibration": _calibrated,
    "hessians": _summed,
    "prune": _pruned,
    "finetune": _tuned,
    "transform": _refitted,
    "predictions": _generated,
    "perplexity": _read,
    "distances": _read,
    "tasks": _asked,
    "answers": _written,
    "classification": _classified,
    "translations": _generated,
    "efficiency": _timed,
    "passes": _timed,
    "census": lambda step: 0.0,
}
