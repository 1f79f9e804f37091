"""What a model computes, by its config alone: the tasks that it can have, and what fits a task.

transformers says which types of models it has a class for; its lists are read from its source, so
that a dry run need not import it. A strategy or a stage says in the literal FITS which tasks its
models may have.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prunegrid.common.source_code import LIBRARY, literals

TITLES = {
    "causal-lm": "a causal language model",
    "seq2seq-lm": "an encoder-decoder language model",
    "masked-lm": "a masked language model",
    "encoder": "an encoder",
}
# The list of transformers that has the types of models of a task.
_LISTS = {
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": "causal-lm",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": "seq2seq-lm",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES": "masked-lm",
    "MODEL_MAPPING_NAMES": "encoder",
}
# Folders whose modules say what they fit.
STRATEGIES, CRITERIA, STAGES = "finetuning/strategies", "pruning/structured", "stages"


@functools.cache
def types() -> Mapping[str, frozenset[str]]:
    """Return {task: the model types that transformers has a class for}; {} without transformers."""
    package = importlib.util.find_spec("transformers")
    if package is None or not package.origin:
        return {}
    source = Path(package.origin).parent / "models/auto/modeling_auto.py"
    found = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        name = getattr(node.targets[0], "id", None) if isinstance(node, ast.Assign) else None
        if name in _LISTS:
            pairs = ast.literal_eval(node.value.args[0])
            found[_LISTS[name]] = frozenset(kind for kind, _ in pairs)
    return found


def tasks_of(config: Mapping[str, Any]) -> set[str]:
    """Return the tasks that a model of a config can have; empty where nothing is known of its type.

    A type that has a class for masked language models and one for causal ones (BERT) is causal only
    if its config says `is_decoder`. A decoder of a type with an encoder (BART's) is made from the
    config of both. A model of texts and images has the tasks of its part for texts too.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str):  # told by the step that builds the model
        return set()
    found = {task for task, names in types().items() if kind in names}
    if isinstance(config.get("text_config"), Mapping):
        return found | tasks_of(config["text_config"])
    decoder = bool(config.get("is_decoder"))
    if "seq2seq-lm" in found:
        two = config.get("is_encoder_decoder", True)
        return found - ({"masked-lm", "encoder"} if two else {"masked-lm", "seq2seq-lm"})
    return (
        found
        - ({"causal-lm"} if "masked-lm" in found and not decoder else set())
        - ({"masked-lm"} if decoder else set())
    )


def misfit(config: Mapping[str, Any], task: str) -> str:
    """Return why a model of a config cannot have a task, and what it can; "" where it can.

    Args:
        config: of transformers, whole or as a user wrote it.
        task: one of TITLES.
    """
    found = tasks_of(config)
    if task in found or not found:
        return ""
    reason = f"model_type {config['model_type']} is not {TITLES[task]}"
    if task == "causal-lm" and config["model_type"] in types().get(task, ()):
        reason += ": its tokens see those after them, as its config has no `is_decoder: true`"
    fitting = " or ".join(task for task in TITLES if task in found)
    return f"{reason}; expected task: {fitting}"


def unfit(folder: str, name: str, task: str | None) -> str:
    """Return why a plugin or a stage does not fit models of a task, and what does; "" if it does.

    Args:
        folder: STRATEGIES, CRITERIA or STAGES.
        name: of the module there.
        task: of the model; None for a kind that no profile names.
    """
    file = LIBRARY / "prunegrid" / folder / f"{name}.py"
    fits = _fits(file) if file.is_file() else ()
    if task in fits or not fits:  # a name that is unknown has a fault of its own
        return ""
    text = f"{name}{' of whole units' if folder == CRITERIA else ''} needs "
    text += f"{TITLES[fits[0]] if len(fits) == 1 else 'a model'} (task: {' or '.join(fits)}), "
    text += f"and this is {TITLES.get(task, 'a classifier')}"
    text += f" (task: {task})" if task else ""
    files = sorted((LIBRARY / "prunegrid" / folder).glob("[!_]*.py"))
    others = [file.stem for file in files if file.stem != "none" and task in _fits(file)]
    return text + (f", which one of {', '.join(others)} would fit" if others else "")


def unfit_learning(strategy: str, task: str, *, processes: int, loss_on: str, windows: bool) -> str:
    """Return why a training step cannot teach a model of a task; "" where it can.

    Args:
        task: of the model.
        processes, loss_on: of the step.
        windows: whether it learns windows of a text.
    """
    labels, reads = loss_on == "label", task in ("masked-lm", "encoder")
    text = ""
    if task != "causal-lm" and processes > 1:
        text = f"processes is {processes}, and {TITLES[task]} is not shared out; expected 1"
    elif labels and (windows or not reads):
        text = "labels are learned by encoders, of summaries; expected loss_on: response or all"
    elif task == "encoder" and not labels:
        text = (
            "an encoder (task: encoder) has no head that tells tokens; expected loss_on: label, to "
            "learn the class that a summary names, or task: masked-lm for the model"
        )
    elif task == "seq2seq-lm" and (loss_on != "response" or windows):
        text = (
            "an encoder-decoder learns responses alone; expected loss_on: response and a data set "
            "of summaries"
        )
    return text and f"strategy {strategy}: {text}"


def _fits(file: Path) -> tuple[str, ...]:
    """Return the literal FITS of a module; () of one that has none."""
    return tuple(literals(file).get("FITS", ()))
