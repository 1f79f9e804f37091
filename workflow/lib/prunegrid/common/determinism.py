"""Settings of every step that its bytes depend on: derived seeds, torch's threads and precision.

This code enters every step's key; `prunegrid.running.job`, which changes no bytes, does not.
"""

from __future__ import annotations

import hashlib
import os


def derived_seed(seed: int, purpose: str) -> int:
    """Return the seed of one purpose, 0 ≤ seed < 2^63: the first 8 bytes of SHA-256, halved."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def settle_torch(threads: int) -> None:
    """Fix torch's threads (one and two threads give different bytes) and turn TF32 off."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # bitsandbytes would let torch compile its fallbacks: seconds a job, and other bytes if there
    # is a compiler.
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import torch

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
