"""What a timing of a tiny model is asked for."""

from __future__ import annotations

SETTINGS = {
    "warmup": 1,
    "repetitions": 5,
    "prompt_tokens": 7,
    "new_tokens": 4,
    "batch_size": 2,
    "cache_dequantized": False,
    "sizes": False,
}
