"""The columns of the matrix, and the judgement of one cell."""

from __future__ import annotations

import functools
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

import prunegrid
from prunegrid.common.errors import PrunegridError
from tests.matrix import steps, tuning_steps
from tests.matrix.checks import Mismatch
from tests.matrix.subjects import Subject
from tests.matrix.verdicts import FAULT, REFUSED, UNTRIED, VERIFIED, Untried, is_reason

DECODERS = ("causal-lm",)
WRITERS = ("causal-lm", "seq2seq-lm")
NAMES = {"masked-lm": "an encoder", "seq2seq-lm": "an encoder-decoder"}
NO_STEP = "has no such step"
ALL = ("causal-lm", "seq2seq-lm", "masked-lm")
LIBRARY = Path(prunegrid.__file__).resolve().parent
LONGEST = 180
# Digests of tuned weights differ between CPUs.
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True)
class Column:
    """One step of the matrix.

    Attributes:
        title: of the table's column.
        attempt: tries the step on a subject.
        tasks: the tasks that have such a step; others must be refused.
        says: what *verified* means for it, a sentence.
    """

    title: str
    attempt: Callable[[Subject], None]
    tasks: tuple[str, ...]
    says: str


def _column(title: str, attempt: Callable, tasks: tuple[str, ...], *arguments) -> Column:
    says = " ".join((attempt.__doc__ or "").split())
    attempt = functools.partial(_with, attempt, arguments) if arguments else attempt
    return Column(title, attempt, tasks, says)


def _with(attempt: Callable, arguments: tuple, subject: Subject) -> None:
    attempt(subject, *arguments)


COLUMNS = {
    "import": _column("import", steps.import_model, ALL),
    "norms": _column("norms", steps.norms, ALL),
    "magnitude": _column("magnitude 2:4", steps.magnitude, ALL),
    "wanda": _column("Wanda 50%", steps.wanda, ALL),
    "sparsegpt": _column("SparseGPT 2:4", steps.sparsegpt, ALL),
    "by-block": _column("by block", steps.by_block, ALL),
    "perplexity": _column("perplexity", tuning_steps.windows_loss, DECODERS),
    "batches": _column("batches", tuning_steps.batches, WRITERS),
    "lora": _column("LoRA", tuning_steps.lora, ALL),
    "full": _column("full tuning", tuning_steps.full, ALL),
    "qlora": _column("QLoRA", tuning_steps.qlora, ALL),
    "int8": _column("int8", tuning_steps.quantize, ALL, "int8"),
    "nf4": _column("NF4", tuning_steps.quantize, ALL, "nf4"),
    "mlp": _column("less MLP", steps.structured, ALL, "mlp"),
    "heads": _column("fewer heads", steps.structured, ALL, "heads"),
    "blocks": _column("fewer blocks", steps.structured, ALL, "blocks"),
    "experts": _column("fewer experts", steps.experts, DECODERS),
    "pack": _column("pack", tuning_steps.pack, ALL),
    "verify": _column("verify", tuning_steps.verify, ALL),
}


def judge(subject: Subject, name: str) -> tuple[str, str]:
    """Return (verdict, reason) of one step of a subject; the reason is empty where verified."""
    column = COLUMNS[name]
    torch.manual_seed(0)
    try:
        column.attempt(subject)
    except Untried as error:
        return UNTRIED, str(error)
    except PrunegridError as error:
        return (REFUSED if is_reason(error) else FAULT), sentence(error.what, subject)
    except Exception as error:
        own = not isinstance(error, Mismatch) and is_of_library(error)
        if subject.task not in column.tasks:
            # The library was to refuse: what the oracle thinks of its result does not matter.
            reason = f"then {named(error)}" if own else f"though {NAMES[subject.task]} {NO_STEP}"
            return FAULT, sentence(f"accepted, {reason}", subject)
        if not own and not isinstance(error, Mismatch):
            return UNTRIED, sentence(f"the oracle ends in {named(error)}", subject)
        return FAULT, sentence(named(error), subject)
    if subject.task not in column.tasks:
        return FAULT, f"accepted, though {NAMES[subject.task]} {NO_STEP}"
    return VERIFIED, ""


def is_of_library(error: Exception) -> bool:
    """Return whether an error came through the library's code, and not from the oracle alone."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).is_relative_to(LIBRARY) for frame in frames)


def named(error: Exception) -> str:
    """Return an error's class and text; of the oracle's own the text alone."""
    text = str(error)
    return text if isinstance(error, Mismatch) else f"{type(error).__name__}: {text}"


def sentence(text: str, subject: Subject) -> str:
    """Return the first line of a text, without this run's folders, cut where it is long."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no text"]
    line = DIGEST.sub("…", lines[0].replace(str(subject.scratch), "…"))
    if line.endswith(":") and len(lines) > 1:
        line = f"{line} {lines[1]}"
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
