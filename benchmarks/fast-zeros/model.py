"""A whole model of SmolLM2-135M's shape, half of it zeros: memory, and time of a token.

    python benchmarks/fast-zeros/model.py

The weights are random and pruned to 50% by magnitude. Each line is a process of its own, with one
thread, measured in CPU time: the fewest seconds of `--rounds` generations, of a token after the
first one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow/lib"))

DENSE = "dense float32"
FORMS = (DENSE, "float32", "bfloat16", "int8")
FEW, MANY = 8, 40  # new tokens of two generations; the difference is what decoding takes


def write(folder: Path) -> None:
    """Write the model as a plain folder, and packed beside it."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from prunegrid import prune
    from prunegrid.models import checkpoint
    from prunegrid.models.packed import packed_checkpoint

    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
        tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    prune(model, method="magnitude", pattern="unstructured", sparsity=0.5)
    (folder / "plain").mkdir()
    checkpoint.write_plain(model, None, folder / "plain", "unstructured")
    packed_checkpoint.pack(folder / "plain", folder / "packed")


def one(folder: Path, form: str, rounds: int) -> None:
    """Print the line of one form."""
    import psutil
    import torch

    from prunegrid import load_packed
    from prunegrid.models import checkpoint

    torch.set_num_threads(1)
    if form == DENSE:
        model = checkpoint.read_plain(folder / "plain", "cpu", None, "none").model
        tensors = sum(p.nbytes for p in model.parameters())
    else:
        model = load_packed(folder / "packed", form)
        tensors = model.packed_weights.resident_bytes()
    resident = psutil.Process().memory_info().rss
    prompt = torch.arange(1, 65)[None]
    seconds = {FEW: float("inf"), MANY: float("inf")}
    for _ in range(rounds):
        for count in seconds:
            began = time.thread_time()
            model.generate(
                prompt, do_sample=False, min_new_tokens=count, max_new_tokens=count, pad_token_id=0
            )
            seconds[count] = min(seconds[count], time.thread_time() - began)
    token = 1e3 * (seconds[MANY] - seconds[FEW]) / (MANY - FEW)
    print(f"| {form} | {tensors / 1e6:.0f} | {resident / 1e6:.0f} | {token:.1f} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, metavar=("FOLDER", "FORM"), help="one line alone")
    options = parser.parse_args()
    if options.one:
        one(Path(options.one[0]), options.one[1], options.rounds)
        return
    with tempfile.TemporaryDirectory() as place:
        write(Path(place))
        print("| linears | tensors, MB | process, MB | ms a token |\n| --- | --- | --- | --- |")
        for form in FORMS:
            command = [sys.executable, __file__, "--rounds", str(options.rounds)]
            subprocess.run([*command, "--one", place, form], check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
