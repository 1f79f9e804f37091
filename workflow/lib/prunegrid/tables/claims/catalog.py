"""The conclusions: what each says, of which models and data, and the test that decides it.

What is found outside of a conclusion's scope is told beside its verdict and never decides it. To
add one, add an entry.
"""

from __future__ import annotations

from prunegrid.tables.claims.claim import Claim
from prunegrid.tables.claims.scopes import BILLS, LEVELS, ROUNDS, SUMMARIES, TASKS

TWO_OF_FOUR = {"pattern": "2:4"}
DENSE = {"pruned": False}
PRUNED = {"pruned": True}
# Pruned, and as large as before.
ZEROS = {**PRUNED, "removed_prunable": None}
SAME_PLACE = ("pattern", "sparsity_target", "finetune")

CLAIMS = (
    Claim(
        "wanda-over-magnitude",
        "Wanda keeps more than magnitude at 2:4.",
        **SUMMARIES,
        kind="pair",
        settings={
            "a": {"method": "wanda", **TWO_OF_FOUR},
            "b": {"method": "magnitude", **TWO_OF_FOUR},
            "match": ("finetune",),
        },
    ),
    Claim(
        "wanda-over-sparsegpt",
        "Wanda keeps more than SparseGPT at 2:4.",
        **SUMMARIES,
        kind="pair",
        settings={
            "a": {"method": "wanda", **TWO_OF_FOUR},
            "b": {"method": "sparsegpt", **TWO_OF_FOUR},
            "match": ("finetune",),
        },
    ),
    Claim(
        "4of8-over-2of4",
        "4:8 keeps more than 2:4.",
        **SUMMARIES,
        kind="pair",
        settings={"a": {"pattern": "4:8"}, "b": TWO_OF_FOUR, "match": ("method", "finetune")},
    ),
    Claim(
        "unstructured-over-nm",
        "Unstructured pruning keeps more than N:M at the same sparsity.",
        **SUMMARIES,
        kind="pair",
        settings={
            "a": {"pattern": "unstructured"},
            "b": {"pattern": ("4:8", "2:4")},
            "match": ("method", "sparsity_target", "finetune"),
        },
    ),
    Claim(
        "patterns-alike",
        "Wanda's patterns differ by almost nothing (less than .02 ROUGE, or 5% of perplexity).",
        **SUMMARIES,
        kind="same",
        settings={
            "a": {"method": "wanda", "pattern": ("unstructured", "4:8")},
            "b": {"method": "wanda", "pattern": ("4:8", "2:4")},
            "match": ("sparsity_target", "finetune"),
            "margin": 0.02,
            "factor": 1.05,
        },
    ),
    Claim(
        "activation-not-always-better",
        "Criteria that use activations are not always better than magnitude.",
        **SUMMARIES,
        kind="pair",
        settings={
            "a": {"method": "magnitude"},
            "b": {"method": ("wanda", "sparsegpt", "ria")},
            "match": SAME_PLACE,
        },
        quantifier="some",
    ),
    Claim(
        "repetition-raises-rouge",
        "Models reach ROUGE by repeating: one that repeats more scores higher.",
        **SUMMARIES,
        kind="both",
        settings={"more": "rep4", "plain": False},
        quantifier="some",
    ),
    Claim(
        "prompt-overfit",
        "Tuning with the loss on the prompt too fits the prompt instead of the summary.",
        **SUMMARIES,
        kind="pair",
        settings={
            "a": {"loss_on": "response"},
            "b": {"loss_on": "all"},
            "match": ("prune", "strategy"),
        },
    ),
    Claim(
        "small-models-more-sensitive",
        "Smaller models lose more by the same pruning.",
        **SUMMARIES,
        kind="sensitivity",
        settings={"a": PRUNED, "b": DENSE, "match": ("finetune",), "across": "model"},
    ),
    Claim(
        "qlora-does-not-restore",
        "QLoRA does not bring a small pruned model back to the dense one tuned alike.",
        **SUMMARIES,
        kind="pair",
        settings={
            "a": {**DENSE, "strategy": "qlora"},
            "b": {**PRUNED, "strategy": "qlora"},
            "match": ("finetune",),
        },
    ),
    Claim(
        "qlora-slower",
        "Quantized models with an adapter write more slowly than fully tuned ones.",
        **BILLS,
        metrics=("decode_speed_vs_dense",),
        kind="measure",
        settings={
            "a": {"strategy": "qlora"},
            "b": {"strategy": "full"},
            "match": ("prune",),
            "column": "decode_speed_vs_dense",
            "at_most": 1.0,
            "tolerance": 0.1,
        },
    ),
    Claim(
        "quantization-faster",
        "Quantization makes models write faster.",
        **BILLS,
        metrics=("decode_speed_vs_dense",),
        kind="measure",
        settings={
            "a": {"strategy": "qlora"},
            "b": {"strategy": ("none", "full", "lora")},
            "match": ("prune",),
            "column": "decode_speed_vs_dense",
            "at_least": 1.0,
            "tolerance": 0.1,
        },
    ),
    Claim(
        "nm-faster",
        "N:M models write faster than unstructured ones.",
        **BILLS,
        metrics=("decode_speed_vs_dense",),
        kind="measure",
        settings={
            "a": {"pattern": ("4:8", "2:4")},
            "b": {"pattern": "unstructured"},
            "match": ("method", "sparsity_target", "finetune"),
            "column": "decode_speed_vs_dense",
            "at_least": 1.0,
            "tolerance": 0.05,
        },
    ),
    Claim(
        "zeros-save-no-time",
        "Zeros alone bring no speed (10% at most).",
        **BILLS,
        metrics=("decode_speed_vs_dense",),
        kind="measure",
        settings={
            "a": ZEROS,
            "b": DENSE,
            "match": ("finetune",),
            "column": "decode_speed_vs_dense",
            "at_most": 1.1,
            "tolerance": 0.05,
        },
    ),
    Claim(
        "zeros-save-no-bytes",
        "Zeros alone make no file smaller (5% at most).",
        **BILLS,
        metrics=("file_bytes",),
        kind="measure",
        settings={
            "a": ZEROS,
            "b": DENSE,
            "match": ("finetune",),
            "column": "file_bytes",
            "at_least": 0.95,
            "tolerance": 0.01,
        },
    ),
    Claim(
        "nonzeros-halved",
        "At 50% sparsity a model has half the non-zero parameters.",
        **BILLS,
        metrics=("nonzero_parameters",),
        kind="measure",
        settings={
            "a": {**ZEROS, "sparsity_target": 0.5},
            "b": DENSE,
            "match": ("finetune",),
            "column": "nonzero_parameters",
            "at_most": 0.51,
            "tolerance": 0.01,
        },
    ),
    Claim(
        "iterative-over-one-shot",
        "At high sparsity, pruning and tuning in rounds beats doing each once.",
        **ROUNDS,
        kind="pair",
        settings={
            "a": {"iterative": True, "tuned": True, "zeros_promised": "all"},
            "b": {"iterative": False, "tuned": True, "zeros_promised": "all"},
            "match": ("method", "pattern", "sparsity_target", "tuned_by"),
        },
    ),
    Claim(
        "tuning-recovers",
        "Tuning a pruned model makes it better.",
        **ROUNDS,
        kind="pair",
        settings={
            "a": {**PRUNED, "tuned": True},
            "b": {**PRUNED, "tuned": False},
            "match": ("prune",),
        },
    ),
    Claim(
        "sparsegpt-over-magnitude",
        "SparseGPT keeps more than magnitude at the same sparsity.",
        **ROUNDS,
        kind="pair",
        settings={"a": {"method": "sparsegpt"}, "b": {"method": "magnitude"}, "match": SAME_PLACE},
    ),
    Claim(
        "a-tenth-is-free",
        "Taking a tenth of the weights by magnitude changes nothing (1%, or .01).",
        **LEVELS,
        kind="same",
        settings={
            "a": {"method": "magnitude", "sparsity_target": 0.1, "tuned": False},
            "b": {**DENSE, "tuned": False},
            "margin": 0.01,
            "factor": 1.01,
        },
    ),
    Claim(
        "half-breaks",
        "Half of the weights taken by magnitude, without tuning, breaks a model (perplexity ×2).",
        **LEVELS,
        kind="pair",
        settings={
            "a": {**DENSE, "tuned": False},
            "b": {"method": "magnitude", "sparsity_target": 0.5, "tuned": False},
            "margin": 0.1,
            "factor": 2.0,
        },
    ),
    Claim(
        "sparser-is-faster",
        "Very sparse models (90% and more) compute faster than the dense one.",
        **{**LEVELS, "splits": ("*",), "metrics": ("prefill_speed_vs_dense",)},
        kind="measure",
        settings={
            "a": {"method": "magnitude", "sparsity_target": (0.9, 0.95, 0.99)},
            "b": DENSE,
            "match": ("finetune",),
            "column": "prefill_speed_vs_dense",
            "at_least": 1.0,
            "tolerance": 0.05,
        },
    ),
    Claim(
        "tolerance-by-task",
        "How much sparsity a model bears depends on the task (relative losses .1 apart).",
        **{**LEVELS, "splits": ("*",)},
        kind="sensitivity",
        settings={
            "a": {**PRUNED, "tuned": False},
            "b": {**DENSE, "tuned": False},
            "across": "task",
            "margin": 0.1,
        },
        quantifier="some",
    ),
    Claim(
        "no-catastrophe",
        "Pruned and tuned models keep their abilities: they stay above chance.",
        **TASKS,
        kind="chance",
        settings={"a": {**PRUNED, "tuned": True}, "plain": False},
    ),
)
