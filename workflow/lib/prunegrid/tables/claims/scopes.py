"""Where conclusions were drawn: the public works, and their models, data, texts and metrics.

Names are of profiles as the shipped config has them (`*` stands for anything); the page says which
of them it lacks. Perplexities are of the text that an evaluation names: what a cell was tuned on
is no part of their scope.
"""

from __future__ import annotations

from typing import Any

SOURCES = {
    "notebooks": "public notebooks on OPT and BillSum (2024)",
    "iterative": "a public repository on SparseGPT with fine-tuning (2023)",
    "magnitude": "a public course project on GPT-2 XL and M2M100 (2022)",
    "structured": "a public project on GPT-2 and OLMo-1B, structured pruning and several tasks",
}
BILLS: dict[str, Any] = {
    "seen": "notebooks",
    "models": ("opt-125m", "opt-350m"),
    "datasets": ("billsum", "billsum-legacy"),
}
SUMMARIES = {**BILLS, "metrics": ("rougeLsum",)}
WIKITEXT_2: dict[str, Any] = {"datasets": ("*",), "splits": ("wikitext",), "metrics": ("ppl_*",)}
ROUNDS = {"seen": "iterative", "models": ("opt-125m", "opt-350m", "opt-1.3b"), **WIKITEXT_2}
# GPT2-XL has 1024 positions: its text is read in windows of those.
LEVELS = WIKITEXT_2 | {
    "seen": "magnitude",
    "models": ("gpt2-xl",),
    "splits": ("wikitext", "wikitext-1024", "wikitext-legacy"),
}
TASKS: dict[str, Any] = {
    "seen": "structured",
    "models": ("gpt2", "olmo-1b"),
    "datasets": ("*",),
    "metrics": ("acc*",),
}
