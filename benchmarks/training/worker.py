"""Measure the library on PYTHONPATH in this process; print one JSON object. Called by run.py.

It must run on older commits of the library too, so it asks for what is newer by name.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

ADAPTER = {"rank": 16, "alpha": 32, "dropout": 0.0}
VARIANTS = ("full", "full masked", "lora", "lora masked", "qlora", "qlora masked")
# Tokens of an abstract and its summary, about as those of AclSum spread.
SHORTEST, LONGEST = 150, 400


def llama(layers: int, width: int, vocabulary: int) -> nn.Module:
    """Return a random model with SmolLM2-135M's proportions (width 576: its very widths)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        num_key_value_heads=max(width // 192, 1),
        vocab_size=vocabulary,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config)


def variant(name: str, sizes: tuple[int, int, int], cast: bool) -> Callable[[Tensor], None]:
    """Return what takes one optimizer step of a variant on token ids [1, tokens]."""
    from prunegrid.finetuning.training import sparsity
    from prunegrid.models import masked_lora, quantized, zero_masks
    from prunegrid.pruning.layerwise import prune_model
    from prunegrid.pruning.recipe import Recipe

    model = llama(*sizes)
    prune_model(model, Recipe("magnitude", "2:4"))
    masks = zero_masks.keep_masks(model, "2:4")
    mask_weights = mask_gradients = None
    if name.startswith("qlora"):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            model = quantized.quantize(Path(folder), "cpu", "nf4", True)
    if "lora" in name:
        under = masks if name.endswith("masked") else {}
        model = masked_lora.wrap(model, list(masks), under, ADAPTER)
        if hasattr(quantized, "hold_weights"):
            quantized.hold_weights(model, True)
    elif name.endswith("masked"):
        mask_weights, mask_gradients = sparsity.masker(model, masks)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    model.train()

    def step(ids: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            logits = model(input_ids=ids, use_cache=False).logits
        nn.functional.cross_entropy(logits[0, :-1].float(), ids[0, 1:]).backward()
        if mask_gradients is not None:
            mask_gradients()
        nn.utils.clip_grad_norm_(trained, 1.0, foreach=True)
        optimizer.step()
        if mask_weights is not None:
            mask_weights()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds(
    sizes: tuple[int, int, int], tokens: list[int], steps: int, cast: bool
) -> dict[str, dict[str, float]]:
    """Return {tokens: {variant: median CPU seconds a step}}; the variants take turns."""
    ready = {name: variant(name, sizes, cast) for name in VARIANTS}
    found = {}
    for count in tokens:
        ids = torch.randint(sizes[2], (1, count), generator=torch.Generator().manual_seed(1))
        taken: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for turn in range(steps + 1):
            # Another one begins each turn: none always finds the caches as the same other left.
            first = turn % len(VARIANTS)
            for name in VARIANTS[first:] + VARIANTS[:first]:
                began = time.process_time()
                ready[name](ids)
                if turn:  # the first step is not measured
                    taken[name].append(time.process_time() - began)
        found[str(count)] = {name: statistics.median(values) for name, values in taken.items()}
    return found


def lengths(count: int) -> list[int]:
    """Return lengths of rows."""
    draw = torch.Generator().manual_seed(0)
    return torch.randint(SHORTEST, LONGEST + 1, (count,), generator=draw).tolist()


def training_pads(size: int) -> float:
    """Return the share of pads among the positions of an epoch's batches of so many rows."""
    from prunegrid.finetuning.training import token_batches

    rows = [token_batches.Example([1] * (length - 30), [1] * 30) for length in lengths(320)]
    settings = {"batch_size": size, "accumulate": 1, "epochs": 1, "max_steps": None}
    settings["token_budget"] = None
    steps = token_batches.plan(rows, settings, 0)
    batches = [batch for step in token_batches.batches(rows, settings, steps, 0) for batch in step]
    positions = sum(len(batch) * max(map(len, batch)) for batch in batches)
    return 1 - sum(map(len, rows)) / positions


def generation_pads(count: int, size: int) -> dict[str, float]:
    """Return shares of what a tiny model computes: pads of prompts, and past a row's end.

    Its forward passes are counted, not what the library says of them.
    """
    from prunegrid.data.prompts import Prompt
    from prunegrid.evaluation import generation

    model = llama(2, 64, 512).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3)
    rows = [
        Prompt(torch.randint(64, 512, (length,)).tolist(), False, False)
        for length in lengths(count)
    ]
    passes: list[tuple[int, int]] = []
    model.model.register_forward_pre_hook(
        lambda _, __, named: passes.append(named["input_ids"].shape), with_kwargs=True
    )
    settings = {"max_new_tokens": 96, "batch_size": size, "do_sample": False, "num_beams": 1}
    # One token in 32 ends a row: after 32 tokens on average, some at the limit of 96.
    stops = list(range(48, 64))

    class Prompter:
        decode = staticmethod(str)

    made, _ = generation.generate(
        model, Prompter(), rows, settings, stops=stops, pad=0, device="cpu"
    )
    prompts = sum(len(row.ids) for row in rows)
    # The last token that a row writes is not computed with.
    written = sum(one.tokens - 1 for one in made)
    filled = sum(batch * width for batch, width in passes if width > 1)
    after = sum(batch for batch, width in passes if width == 1)
    total = filled + after
    return {
        "prompts": (filled - prompts) / total,
        "past the end": (after - written) / total,
        "mean written": written / count + 1,
    }


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs=3, required=True)
    parser.add_argument("--tokens", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--pads", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.pads:
        found = {
            "training": {size: training_pads(size) for size in (2, 4, 8)},
            "generation": {
                f"{n}/{size}": generation_pads(n, size) for n, size in ((16, 8), (64, 8))
            },
        }
    else:
        cast = arguments.bfloat16
        found = seconds(tuple(arguments.sizes), arguments.tokens, arguments.steps, cast)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
