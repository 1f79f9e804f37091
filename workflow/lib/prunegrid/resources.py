"""How much memory a step will need, estimated from the model's size before it runs.

The estimate is a fixed part (Python, torch, transformers) and bytes a parameter by what the step
holds: weights as loaded (4 bytes in float32), a copy while they are written or hashed, gradients,
two moments in full fine-tuning (12 more), activations of a training batch. Factors are measured
on SmolLM2-135M in float32 with short documents, rounded up; long documents and large batches need
more, so each retry asks for half as much again. A fine-tuning strategy says its own (MEMORY, and
COPY for each copy of the trained weights that early stopping and learning rates keep).
"""

from __future__ import annotations

import json
from pathlib import Path

from prunegrid import modules
from prunegrid.nodes import Node

FIXED_MB = 800
# Steps without weights among their parents.
UNKNOWN_MB = {
    "model": 2200,
    "data": 700,
    "rows": 900,
    "numbers": 500,
    "mixture": 1500,
    "baseline": 400,
    "scores": 700,
}
BYTES_A_PARAMETER = {
    "calibration": 6,
    "prune": 8,
    "predictions": 8,
    "perplexity": 8,
    "tasks": 8,
    "classification": 8,
    "translations": 8,
    "efficiency": 10,
    "passes": 10,
    "scores": 6,
    "census": 0,  # it holds a piece of one tensor
}
# Beyond that, where units are removed: gradients, and the smaller model beside the full one.
STRUCTURED = 8
WEIGHTS = ("model", "prune", "finetune", "transform")


def memory_mb(node: Node, attempt: int = 1) -> int:
    """Return the megabytes that a step is estimated to need.

    Raises:
        FileNotFoundError: the weights that it reads do not exist yet, so their size is unknown.
    """
    weights = [p for p in node.parents.values() if p.stage in WEIGHTS]
    if not weights:
        estimate = float(UNKNOWN_MB[node.stage])
    else:
        if node.stage in ("finetune", "transform"):
            facts = modules.strategy_facts(node.settings["strategy"])
            needed = facts["MEMORY"] + facts["COPY"] * _copies(node.settings)
        else:
            needed = BYTES_A_PARAMETER[node.stage]
            needed += STRUCTURED if node.settings.get("pattern") == "structured" else 0
        parameters = 0
        for parent in weights:
            manifest = json.loads(Path(parent.manifest).read_text(encoding="utf-8"))
            parameters += manifest["record"]["weights"]["parameters"]
        # Each process of a fine-tuning loads the model before it is shared out.
        estimate = (FIXED_MB + parameters * needed / 1e6) * node.settings.get("processes", 1)
    return int(estimate * (1 + (attempt - 1) / 2))


def _copies(settings: dict) -> int:
    """Return how many copies of what it trains a fine-tuning keeps beside the model.

    Those that learning rates are tried from and the best of them; the best by development loss.
    """
    return 2 * bool(settings.get("learning_rates")) + bool(settings.get("evaluate_every"))
