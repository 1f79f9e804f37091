"""Seconds of an optimizer step with masks kept and without, medians of steps that take turns.

python benchmarks/masking/run.py
python benchmarks/masking/run.py --width 128 --steps 2 --tokens 64 256
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow/lib"))

import torch  # noqa: E402

ADAPTER = {"rank": 16, "alpha": 32, "dropout": 0.0}


def build(width: int, layers: int):
    """Return a random Llama-shaped model pruned to 2:4 by magnitude."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from prunegrid.pruning.engine import prune_model
    from prunegrid.pruning.recipe import Recipe

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=width,
        intermediate_size=width * 8 // 3 // 8 * 8,
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        num_key_value_heads=max(width // 64, 1),
        vocab_size=1024,
        max_position_embeddings=2048,
    )
    model = AutoModelForCausalLM.from_config(config)
    prune_model(model, Recipe("magnitude", "2:4"))
    return model


def variant(name: str, width: int, layers: int) -> Callable[[torch.Tensor], None]:
    """Return what takes one optimizer step of a variant on token ids [1, tokens]."""
    from prunegrid import kept, masked_lora
    from prunegrid.blocks import prunable
    from prunegrid.finetuning import norms
    from prunegrid.training import masking

    model = build(width, layers)
    masks = kept.keep_masks(model, "2:4")
    mask_weights = mask_gradients = None
    if name == "full, masks kept":
        mask_weights, mask_gradients = masking.masker(model, masks)
    elif name.startswith("lora"):
        under = masks if name == "lora, under the mask" else {}
        model = masked_lora.wrap(model, list(prunable(model)), under, ADAPTER)
    elif name == "norms":
        norms.choose(model, name)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    model.train()

    def step(ids: torch.Tensor) -> None:
        logits = model(input_ids=ids, use_cache=False).logits
        torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:]).backward()
        if mask_gradients is not None:
            mask_gradients()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        if mask_weights is not None:
            mask_weights()
        optimizer.zero_grad(set_to_none=True)

    return step


PLAIN = {
    "full": "full",
    "full, masks kept": "full",
    "lora": "lora",
    "lora, under the mask": "lora",
    "norms": "full",
}


def measure(width: int, layers: int, tokens: int, steps: int) -> dict[str, float]:
    """Return the median seconds of a step by variant, one unmeasured step first."""
    ids = torch.randint(1024, (1, tokens), generator=torch.Generator().manual_seed(1))
    ready = {name: variant(name, width, layers) for name in PLAIN}
    seconds: dict[str, list[float]] = {name: [] for name in PLAIN}
    for turn in range(steps + 1):
        # Another one begins each turn: none always finds the caches as the same other left them.
        first = turn % len(ready)
        for name, step in [*ready.items()][first:] + [*ready.items()][:first]:
            began = time.perf_counter()
            step(ids)
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--steps", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| tokens a step | variant | seconds a step | to its plain one |")
    print("|---|---|---|---|")
    for tokens in arguments.tokens:
        found = measure(arguments.width, arguments.layers, tokens, arguments.steps)
        for name, value in found.items():
            ratio = value / found[PLAIN[name]]
            print(f"| {tokens} | {name} | {value:.4f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
