"""Structured pruning: whole units leave the model, which shrinks and loads by a plain config.

A criterion is one module of this package, found by its name; adding one edits no other file:

    FITS      tasks of the models that it can score (`prunegrid.common.model_family`)
    UNITS     units that it scores: "mlp", "heads", "blocks" (these by default), "experts"
    NEEDS     "nothing" | "input_norms" | "gradients" | "hidden_states" | "expert_outputs": what it
              must know beside the weights
    SETTINGS  its own config settings with their defaults
    DRAWS     True where it draws random numbers
    importance(weight, seen, **settings) -> float32 [d_out, d_in]

All but the functions are literals, so they can be read without importing torch. `weight` is
[d_out, d_in]; `seen` is None, mean x² of its inputs [d_in], or the gradient of the calibration loss
[d_out, d_in]; settings are all of SETTINGS, and `generator` where DRAWS. The result is not
negative. A unit's score is the sum of the importance of all its weights, biases apart; the units of
the lowest scores go, of equal ones the first.

A criterion that needs hidden states scores whole blocks (UNITS is ("blocks",)). In place of
`importance` it has

    importance_of_block(entering, leaving, **settings) -> float64 [tokens]

of the hidden states [tokens, d] before and after the block; the mean over all calibration tokens
is the block's score.

With NEEDS "expert_outputs" it is `importance(gates, norms, **settings)` → float32 [tokens]: of the
router's weights and of the norms of one expert's outputs before they are weighted, both float32
[tokens]. The expert's score is the mean over the tokens that reach it; one that none reaches has no
score and stays.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from prunegrid.common.plugins import criterion_facts


def criterion_module(name: str) -> ModuleType:
    """Return the module of a criterion.

    Raises:
        PrunegridError: there is none of that name.
    """
    criterion_facts(name)
    return importlib.import_module(f"prunegrid.pruning.structured.{name}")
