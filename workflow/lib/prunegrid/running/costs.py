"""How long a step takes and how much disk it needs, estimated from the model's size.

Time is a fixed start (imports, loading) and work over a rate. Work is counted in floating-point
operations: 2 a parameter and token of a forward pass, 6 of a training step (the backward pass costs
two forward ones; Kaplan et al. 2020, section 2.1); attention's own products are left out. RATE is
cautious, a thread of a CPU and a GPU in float32: where finished runs are at hand `prunegrid plan`
takes theirs (`prunegrid.commands.history`). What is not known before data are read (rows of a
split, tokens of a text) is assumed, as ASSUMED says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prunegrid.graph.nodes import WEIGHTS_MADE
from prunegrid.graph.stage_facts import stage_facts

# Seconds before a step computes, and all of the time of those that do next to nothing.
# Floating-point operations a second: of a thread, of a GPU.
RATE = {"cpu": 2e10, "cuda": 1e13}
ASSUMED = {"rows": 1000, "tokens": 1024, "answer": 128, "text": 300_000, "items": 2000, "item": 128}
TOKENS_A_WORD = 1.5
# A token that is generated reads all weights for one row of products: slower than a prompt's.
GENERATED = 4
# Operations a parameter: zeros are counted and weights hashed; a census looks at each weight.
COUNTING = 50
STEPS_OF_REFIT = 20  # passes over the samples that refitting a block is worth
# What a step writes, in bytes a parameter beside those of the weights as they were given.
PACKED = {"nf4": 2, "int8": 2, "bfloat16": 2}
HESSIANS = 2
SMALL = 2_000_000  # bytes of an artifact without weights


@dataclass(frozen=True)
class Step:
    """What decides the costs of a step, of a planned one or of one that is finished.

    Attributes:
        stage: the name of a module of `prunegrid.stages`.
        settings: its slice of the config.
        parameters: of the weights that it reads, summed; None where it reads none, or they are not
            known; of a model, its own.
        samples: tokens of its calibration samples; 0 without.
        rows: {split: rows} of its data, as far as known.
        pruned: whether the weights that it reads were pruned.
        device: "cpu" or "cuda".
        threads: torch's, of all its processes.
        memory: how models are held (`config.profiles.Memory`); None is as a whole.
        precision: that the step before gave the weights that it reads; None where it gave none.
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

    @property
    def kind(self) -> str | None:
        """The method or strategy, where the stage has several."""
        return self.settings.get("method") or self.settings.get("strategy")

    @property
    def turns(self) -> int:
        """How many times it starts over: once for each of several controls."""
        return len(self.settings.get("controls") or (None,))


def start(step: Step) -> float:
    """Return the seconds before a step computes."""
    return stage_facts(step.stage).start_seconds * step.turns


def work(step: Step) -> float:
    """Return the floating-point operations of a step; 0 where they do not decide its time."""
    if step.stage not in _PASSES or not step.parameters:
        return 0.0
    return step.parameters * (_PASSES[step.stage](step) + COUNTING)


def seconds(step: Step) -> float:
    """Return the seconds that a step takes at the rates of RATE."""
    rate = RATE[step.device] * (step.threads if step.device == "cpu" else 1)
    return start(step) + work(step) / rate


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
    """Return the precision of what a step writes; None for that of what it reads."""
    if settings.get("strategy") == "qlora" and settings.get("adapter") != "merged":
        return settings.get("quantization") or "nf4"
    return settings.get("precision")


def _calibrated(step: Step) -> float:
    return 2.0 * step.settings["samples"] * step.settings["length"]


def _summed(step: Step) -> float:
    # A pass, and products of each input with itself that are worth another three.
    return 8.0 * step.samples


def _pruned(step: Step) -> float:
    # Each block runs before and after; a Hessian's products are worth another pass or two, and
    # inverting one some thousand operations a parameter.
    return 8.0 * step.samples + (4000.0 if step.samples else 0.0)


def _tuned(step: Step) -> float:
    settings = step.settings
    runs = len(settings.get("learning_rates") or [None])
    return 6.0 * runs * _learned_tokens(step, settings)


def _learned_tokens(step: Step, settings: Mapping[str, Any]) -> float:
    if settings.get("token_budget"):
        return settings["token_budget"]
    length = _row_tokens(settings)
    if settings.get("max_steps"):
        return settings["max_steps"] * settings["batch_size"] * settings["accumulate"] * length
    rows = settings.get("rows") or _rows(step, settings.get("split"))
    return settings.get("epochs", 1) * rows * length


def batch_tokens(step: Step) -> float:
    """Return the tokens of the batch that a training step runs at once."""
    return step.settings["batch_size"] * _row_tokens(step.settings)


def _row_tokens(settings: Mapping[str, Any]) -> float:
    """Return the tokens of a row, or of a window, that is learned."""
    if settings.get("window"):
        return settings["window"]
    answer = settings.get("max_summary_tokens") or ASSUMED["answer"]
    return _prompt_tokens(settings) + answer


def _refitted(step: Step) -> float:
    return 2.0 * STEPS_OF_REFIT * step.samples


def _generated(step: Step) -> float:
    settings = step.settings
    rows = settings.get("rows") or _rows(step, settings.get("split"))
    beams = settings.get("num_beams") or 1
    new = settings["max_new_tokens"] * GENERATED * beams
    return 2.0 * rows * (_prompt_tokens(settings) + new)


def _read(step: Step) -> float:
    settings = step.settings
    if settings.get("max_windows"):
        return 2.0 * settings["max_windows"] * settings["window"]
    windows = ASSUMED["text"] / (settings.get("stride") or settings["window"])
    return 2.0 * windows * settings["window"]


def _asked(step: Step) -> float:
    each = [
        (asked.get("rows") or ASSUMED["items"]) * (1 + (asked.get("shots") or 0))
        for asked in step.settings["tasks"]
    ]
    return 2.0 * sum(each) * ASSUMED["item"]


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


def _rows(step: Step, split: str | None) -> int:
    return (step.rows or {}).get(split, ASSUMED["rows"])


# Operations a parameter, COUNTING apart.
_PASSES = {
    "calibration": _calibrated,
    "hessians": _summed,
    "prune": _pruned,
    "finetune": _tuned,
    "transform": _refitted,
    "predictions": _generated,
    "perplexity": _read,
    "tasks": _asked,
    "classification": _classified,
    "translations": _generated,
    "efficiency": _timed,
    "passes": _timed,
    "census": lambda step: 0.0,
}
