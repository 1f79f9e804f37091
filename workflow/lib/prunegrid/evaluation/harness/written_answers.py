"""Answers that a model writes to the items of multiple-choice tasks, and which of them are right.

An item's prompt is the one whose options were scored. The model goes on with it greedily, for as
many tokens as the right option has (the longest, of several), and one more that shows where the
last word ends. The text is right if it begins with a right option:

- of both, the outer blank space, all but the first line that is left and the letters' case go, and
  blank space inside counts as one space;
- the option ends there, or what follows it is no letter or digit (" 12" is no " 1").

Blank space at a prompt's end is left to the model, as the harness leaves it to the options. A mark
that belongs to the option must be written too: "yes." does not answer for "yes!".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prunegrid.common.errors import PrunegridError
from prunegrid.data import prompts
from prunegrid.evaluation import generation
from prunegrid.evaluation.harness.task_runner import Model
from prunegrid.models.checkpoint import Checkpoint

# The kind of task of the harness whose items have options.
OF_OPTIONS = "multiple_choice"
GREEDY = {"do_sample": False, "num_beams": 1}


@dataclass(frozen=True)
class Item:
    """An item of a multiple-choice task.

    Attributes:
        id: as in `scores.parquet` of its task.
        prompt: what the model was given.
        right: the texts of the right options, as they follow the prompt.
    """

    id: str
    prompt: str
    right: tuple[str, ...]


def items_of(
    samples: Sequence[Mapping[str, Any]], definition: Mapping[str, Any], where: str
) -> list[Item]:
    """Return the items of a task, each once.

    Args:
        samples: rows of `samples.parquet` of the stage `tasks`.
        definition: {task: its definition}, of `definition.yaml` there.

    Raises:
        PrunegridError: the task has no options, they do not follow one prompt, or none is right.
    """
    for name, body in definition.items():
        if body.get("output_type") != OF_OPTIONS:
            raise PrunegridError(
                f"the task {name!r} has output_type {body.get('output_type')}",
                where=where,
                expected=f"{OF_OPTIONS}: items with options, of which one can be recognised",
                remedy="leave the task out of `tasks` of this evaluation",
            )
    items: dict[str, Item] = {}
    for row in samples:
        if row["id"] not in items:
            items[row["id"]] = Item(row["id"], row["prompt"], _right(row, where))
    return list(items.values())


def _right(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return the right options of an item.

    The harness's target is the place of an option, its text, or a list of places.
    """
    options = list(row["continuations"])
    if len(options) > 1 and len({option.strip() for option in options}) == 1:
        raise PrunegridError(
            f"all options of item {row['id']} go on with {options[0].strip()!r}",
            where=where,
            expected="options that differ after one prompt",
            remedy="leave the task out of `tasks` of this evaluation",
        )
    target = json.loads(row["target"])
    texts = [option.strip() for option in options]
    right = []
    for one in target if isinstance(target, list) else [target]:
        place = texts.index(one.strip()) if isinstance(one, str) and one.strip() in texts else one
        if isinstance(place, int) and 0 <= place < len(options) and normal(options[place]):
            right.append(options[place])
    if not right or not row["prompt"].strip():
        raise PrunegridError(
            f"item {row['id']} has {'no prompt' if right else 'no right option with a text'}",
            where=where,
            expected="a prompt, and options that are texts",
            remedy="mend the task's rows or its definition, or leave the task out",
        )
    return tuple(right)


def write(
    loaded: Checkpoint, items: Sequence[Item], batch_size: int, device: str, where: str
) -> tuple[list[str], int]:
    """Return what a model writes for each item, and how many prompts were cut.

    Tokens of prompts are those after which the options were scored. A prompt that leaves no room
    for the answer within the model's positions is cut at its beginning.

    Args:
        loaded: a causal language model.
        batch_size: the most rows that are written at once.
    """
    model = Model(loaded.model, loaded.tokenizer, batch_size)
    prompter = prompts.Prompter(loaded.tokenizer, {"template": prompts.SLOT}, None, where)
    rooms: dict[int, dict[int, prompts.Prompt]] = {}
    for place, item in enumerate(items):
        pairs = [model.pair(item.prompt, option) for option in item.right]
        room = max(len(option) for _, option in pairs) + 1
        ids, space = pairs[0][0], model.max_length - room
        prompt = prompts.Prompt(ids[-space:], cut_words=False, cut_context=len(ids) > space)
        rooms.setdefault(room, {})[place] = prompt
    texts, cut = [""] * len(items), 0
    for room, filled in sorted(rooms.items(), reverse=True):
        written, _ = generation.generate(
            loaded.model,
            prompter,
            list(filled.values()),
            {**GREEDY, "max_new_tokens": room, "batch_size": batch_size},
            stops=prompts.stop_ids(loaded),
            pad=prompts.pad_of(loaded),
            device=device,
        )
        cut += sum(prompt.cut_context for prompt in filled.values())
        for place, prediction in zip(filled, written, strict=True):
            texts[place] = prediction.text
    return texts, cut


def is_right(text: str, right: Sequence[str]) -> bool:
    """Return whether a written text begins with a right option (see the module)."""
    said = normal(text)
    for option in map(normal, right):
        if said.startswith(option) and not said[len(option) : len(option) + 1].isalnum():
            return True
    return False


def normal(text: str) -> str:
    """Return the first line of a text that is not blank, its case folded, single spaces inside."""
    lines = text.strip().splitlines()
    return " ".join(lines[0].casefold().split()) if lines else ""
