"""Whether each prediction holds a piece of the prompt's template (1) or not (0).

The template's lines are those around `{document}` and of the text that ends a summary in training
(`end`). A piece is `run` words of a line in a row, a whole shorter line with a mark in it
(`### Output:`, but not `Summary`), or a word of three or more marks (`###`).
"""

from __future__ import annotations

from prunegrid.data.prompts import SLOT
from prunegrid.evaluation.setting_checks import require_number

SETTINGS = {"run": 5}
CITE: tuple[str, ...] = ()  # none: a rule of this project
COLUMNS = {"prompt_echo": {"higher_is_better": False}}
MEANINGS = {
    "run": "Words in a row of a line of the template that count as an echo.",
    "prompt_echo": "0 to 1: the share of predictions that hold a piece of the prompt's template.",
}
READS = ("template",)

_LEAST_MARKS = 3


def _pieces(template: str, run: int) -> set[tuple[str, ...]]:
    """Return the word sequences, case-folded, that betray a template."""
    sequences = set()
    for line in template.replace(SLOT, "\n").splitlines():
        said = line.casefold().split()
        if len(said) >= run:
            sequences |= {tuple(said[i : i + run]) for i in range(len(said) - run + 1)}
        elif not all(word.isalnum() for word in said):
            sequences.add(tuple(said))
        sequences |= {
            (word,)
            for word in said
            if len(word) >= _LEAST_MARKS and not any(c.isalnum() for c in word)
        }
    return sequences


def compute(predictions, references, template, *, run):
    """Return for each example whether it holds a piece of the prompt."""
    require_number("run", run, 1)
    known = {text: _pieces(text, run) for text in set(template)}
    return {
        "prompt_echo": [
            float(_holds(prediction.casefold().split(), known[text]))
            for prediction, text in zip(predictions, template, strict=True)
        ]
    }


def _holds(said: list[str], wanted: set[tuple[str, ...]]) -> bool:
    """Return whether any of the wanted sequences stands among the words."""
    sizes = {len(piece) for piece in wanted}
    return any(
        tuple(said[i : i + size]) in wanted for size in sizes for i in range(len(said) - size + 1)
    )
