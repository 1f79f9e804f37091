"""Multiple-choice items: contexts read once for all options, beside the harness' own way.

    python benchmarks/tasks/run.py [FOLDER]

FOLDER is a causal model's; without it random weights of SmolLM2-135M's shape. Both ways score the
same items in turns, one thread, CPU time: the fewest seconds of `--rounds`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow/lib"), str(ROOT)]

import torch  # noqa: E402 - it needs the path above
from lm_eval.models.huggingface import HFLM  # noqa: E402
from transformers import AutoModelForCausalLM, LlamaConfig  # noqa: E402

from prunegrid.evaluation.harness.task_runner import Model  # noqa: E402
from tests.helpers import tiny  # noqa: E402

# Tokens of a context, of an option, and options: of the probes, and of two benchmarks' means.
SHAPES = {"cloze": (100, 3, 4), "sums": (55, 6, 4), "PIQA": (20, 25, 2), "HellaSwag": (60, 35, 4)}
ITEMS = 12


def smollm2() -> torch.nn.Module:
    """Return random weights of SmolLM2-135M's shape."""
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    made = AutoModelForCausalLM.from_pretrained(options.folder) if options.folder else smollm2()
    runner = Model(made.eval(), tiny.tokenizer(), 8)
    ways = {"harness": HFLM._loglikelihood_tokens, "shared": Model._loglikelihood_tokens}
    print(
        f"| tokens of context, option; options | harness, s | shared, s | ratio |\n{'| --- ' * 4}|"
    )
    for name, (context, option, count) in SHAPES.items():
        draw = random.Random(0)
        asked = []
        for item in range(ITEMS):
            text = [draw.randrange(1000) for _ in range(context)]
            for place in range(count):
                asked.append(((item, place), text, [draw.randrange(1000) for _ in range(option)]))
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(options.rounds):
            for way, score in ways.items():
                began = time.process_time()
                score(runner, asked, disable_tqdm=True)
                best[way] = min(best[way], time.process_time() - began)
        ratio = best["harness"] / best["shared"]
        shape = f"{name}: {context}, {option}; {count}"
        print(
            f"| {shape} | {best['harness']:.1f} | {best['shared']:.1f} | {ratio:.1f} |", flush=True
        )


if __name__ == "__main__":
    main()
