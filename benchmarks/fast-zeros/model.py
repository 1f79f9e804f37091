"""A whole model, half of it zeros: memory, and time of a token in `generate`.

    python benchmarks/fast-zeros/model.py
    python benchmarks/fast-zeros/model.py --shape llama-1.1b --threads 2

The weights are random and pruned by magnitude. Each line is a process of its own. A token's time is
that of decoding alone: the fewest seconds of `--rounds` long generations less those of short ones;
CPU time with one thread, wall time with more. `--compile` adds those of a loop of one's own over a
static cache, without and with `torch.compile`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import StaticCache

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow/lib"))

DENSE = "dense float32"
FORMS = (DENSE, "float32", "bfloat16", "int8")
FEW, MANY = 8, 40  # new tokens of two generations; the difference is what decoding takes
LONGEST = 128  # positions of a static cache
SHAPES = {
    "smollm2-135m": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    },
    "llama-1.1b": {
        "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}  # fmt: skip


def write(folder: Path, shape: str, zeros: float) -> None:
    """Write the model as a plain folder, and packed beside it."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    from prunegrid import prune
    from prunegrid.models import checkpoint
    from prunegrid.models.packed import packed_checkpoint

    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=2048)
    model = AutoModelForCausalLM.from_config(config).eval()
    prune(model, method="magnitude", pattern="unstructured", sparsity=zeros)
    (folder / "plain").mkdir()
    checkpoint.write_plain(model, None, folder / "plain", "unstructured")
    packed_checkpoint.pack(folder / "plain", folder / "packed")


def one(folder: Path, form: str, options: argparse.Namespace) -> None:
    """Print the line of one form."""
    import psutil

    from prunegrid import load_packed
    from prunegrid.models import checkpoint

    torch.set_num_threads(options.threads)
    if form == DENSE:
        model = checkpoint.read_plain(folder / "plain", "cpu", None, "none").model
        tensors = sum(p.nbytes for p in model.parameters())
    else:
        model = load_packed(folder / "packed", form)
        tensors = model.packed_weights.resident_bytes()
    resident = psutil.Process().memory_info().rss
    works = [lambda count: generate(model, count)]
    if options.compile:
        works.append(lambda count: loop(model, model.forward, count))
        step = torch.compile(model.forward)
        works.append(lambda count: loop(model, step, count))
    milliseconds = [token(work, options) for work in works]
    shown = " | ".join(f"{each:.1f}" for each in milliseconds)
    print(f"| {form} | {tensors / 1e6:.0f} | {resident / 1e6:.0f} | {shown} |", flush=True)


def token(work: Callable[[int], None], options: argparse.Namespace) -> float:
    """Return the milliseconds of a token of work, which writes so many."""
    clock = time.thread_time if options.threads == 1 else time.perf_counter
    seconds = {FEW: float("inf"), MANY: float("inf")}
    for _ in range(1 + options.rounds):  # the first round compiles
        for count in seconds:
            began = clock()
            work(count)
            seconds[count] = min(seconds[count], clock() - began)
    return 1e3 * (seconds[MANY] - seconds[FEW]) / (MANY - FEW)


def generate(model: nn.Module, count: int) -> None:
    """Write so many tokens by transformers' own loop."""
    ids = prompt()
    model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
        min_new_tokens=count, max_new_tokens=count,
    )  # fmt: skip


def loop(model: nn.Module, step: Callable, count: int) -> None:
    """Write so many tokens with a cache of one size, so that each token is the same graph."""
    options = {"past_key_values": StaticCache(config=model.config, max_cache_len=LONGEST)}
    options |= {"use_cache": True, "logits_to_keep": 1}
    with torch.no_grad():
        ids = model(input_ids=prompt(), **options).logits.argmax(-1)
        for _ in range(count - 1):
            ids = step(input_ids=ids, **options).logits.argmax(-1)


def prompt() -> Tensor:
    """Return 64 tokens."""
    return torch.arange(1, 65)[None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--zeros", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "FORM"), help="one line alone")
    options = parser.parse_args()
    if options.one:
        one(Path(options.one[0]), options.one[1], options)
        return
    times = ["ms a token", "own loop, static cache", "and compiled"][: 3 if options.compile else 1]
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), options.shape, options.zeros)
        print(f"| linears | tensors, MB | process, MB | {' | '.join(times)} |")
        print("| --- " * (3 + len(times)) + "|", flush=True)
        for form in FORMS:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", place, form]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
