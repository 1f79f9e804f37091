"""Peak memory of pruning a model held a block at a time, measured, beside what arithmetic says.

    python benchmarks/memory/run.py                 # two sizes, then the width of a 7B model
    python benchmarks/memory/run.py --sizes 512 1024

Each line is a process of its own: a random Llama-shaped model of a width and a few layers is
written shard by shard, and pruned by SparseGPT 2:4 through the pipeline's own step.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow/lib"))

SAMPLES, LENGTH = 8, 256
FULL_LAYERS, FULL_SAMPLES, FULL_LENGTH = 32, 128, 2048
FLOAT = 4
MLP = ("gate", "up", "down")
HELD = ["whole", "by-block"]


@dataclass(frozen=True)
class Shape:
    """A Llama-shaped model: 7B has width 4096, inner 11008, 32 heads, 32 layers."""

    width: int
    layers: int

    @property
    def inner(self) -> int:
        """Width of the MLP, as a share of the width what Llama-7B's is."""
        return self.width * 43 // 16

    @property
    def vocabulary(self) -> int:
        """Rows of the embeddings."""
        return 32000 * self.width // 4096

    @property
    def block(self) -> int:
        """Weights of one block."""
        return 4 * self.width**2 + 3 * self.width * self.inner

    @property
    def outside(self) -> int:
        """Weights outside the blocks."""
        return 2 * self.vocabulary * self.width

    def hessians(self) -> int:
        """Return the entries of one block's four Hessians (q, k and v share one, gate and up)."""
        return 3 * self.width**2 + self.inner**2

    def factoring(self) -> int:
        """Return the entries that stand beside the largest Hessian while it is factored.

        A flipped and damped copy, the Cholesky factor, and the factor flipped back.
        """
        return 3 * self.inner**2


def write_model(folder: Path, shape: Shape) -> None:
    """Write a random model, a shard a block, with its WEIGHTS RECORD."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file
    from transformers import AutoConfig

    from prunegrid.common import file_io
    from prunegrid.models import shards
    from prunegrid.models.prunable import BLOCKS_ONLY
    from prunegrid.pruning import offload

    config = AutoConfig.for_model(
        "llama",
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=max(shape.width // 128, 1),
        vocab_size=shape.vocabulary,
        max_position_embeddings=FULL_LENGTH,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype=torch.float32,
    )
    config.save_pretrained(folder)
    draw = torch.Generator().manual_seed(0)

    def normal(*size: int) -> torch.Tensor:
        return torch.empty(size).normal_(0, 0.02, generator=draw)

    width, inner = shape.width, shape.inner
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        tensors = {f"{prefix}self_attn.{n}_proj.weight": normal(width, width) for n in "qkvo"}
        tensors |= {f"{prefix}mlp.{n}_proj.weight": normal(inner, width) for n in ("gate", "up")}
        tensors[f"{prefix}mlp.down_proj.weight"] = normal(width, inner)
        for name in ("input", "post_attention"):
            tensors[f"{prefix}{name}_layernorm.weight"] = torch.ones(width)
        save_file(tensors, folder / f"model-{layer:02}.safetensors", {"format": "pt"})
    rest = {"model.norm.weight": torch.ones(width)}
    rest |= {n: normal(shape.vocabulary, width) for n in ("model.embed_tokens.weight",)}
    rest["lm_head.weight"] = normal(shape.vocabulary, width)
    save_file(rest, folder / "model-rest.safetensors", {"format": "pt"})
    places = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as handle:
            places |= dict.fromkeys(handle.keys(), path.name)
    file_io.write_json(
        folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": places}
    )
    model = offload.ByBlock(folder, "cpu").model
    record = shards.measure(model, folder, None, "none", BLOCKS_ONLY)
    file_io.write_json(folder / "manifest.json", {"record": {"weights": record}})


def one(width: int, layers: int, model: str) -> None:
    """Prune one model and print what it took, as JSON."""
    import torch
    from safetensors.torch import save_file

    from prunegrid.stages import prune

    torch.set_num_threads(1)
    shape = Shape(width, layers)
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place, "model"), Path(place, "out")
        calibration = Path(place, "calibration")
        for made in (folder, out, calibration):
            made.mkdir()
        # In a process of its own, so that what it needs is not part of the peak.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            pool.submit(write_model, folder, shape).result()
        draw = torch.Generator().manual_seed(1)
        tokens = torch.randint(shape.vocabulary, (SAMPLES, LENGTH), generator=draw)
        save_file({"tokens": tokens}, calibration / "tokens.safetensors")
        # Which linears were reached; their numbers are not read.
        ends = [*(f"self_attn.{n}_proj" for n in "qkvo"), *(f"mlp.{n}_proj" for n in MLP)]
        names = [f"model.layers.{layer}.{end}" for layer in range(layers) for end in ends]
        norms = {name: torch.zeros(1) for name in names}
        save_file(norms, calibration / "input_norms.safetensors")
        memory = {"model": model, "activations": "disk", "chunk": 1}
        job = SimpleNamespace(
            compute_dtype="float32",
            device="cpu",
            where="benchmark",
            memory=memory,
            scratch=Path(place, "s"),
            together=(),
        )
        settings = {"method": "sparsegpt", "pattern": "2:4", "propagation": "single-pass"}
        parents = {"weights": folder, "calibration": calibration}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.perf_counter()
        record = prune.run(settings, parents, out, job)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    facts = {"peak": peak, "before": before, "seconds": seconds}
    print(json.dumps(facts | {"sparsity": record["weights"]["sparsity_prunable"]}))


def arithmetic(shape: Shape, samples: int, length: int) -> dict[str, float]:
    """Return the parts of the peak in GB."""
    hidden = samples * length * shape.width
    parts = {
        "outside the blocks": shape.outside,
        "one block": shape.block,
        "its Hessians": shape.hessians(),
        "the largest one's factoring": shape.factoring(),
        "hidden states (on disk)": hidden,
    }
    return {name: count * FLOAT / 1e9 for name, count in parts.items()}


def measure(shape: Shape, model: str) -> dict:
    """Return the facts of one process."""
    command = [sys.executable, __file__, "--one", str(shape.width), str(shape.layers), model]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--held", nargs="+", default=HELD, choices=HELD)
    parser.add_argument("--one", nargs=3, metavar=("WIDTH", "LAYERS", "MODEL"))
    arguments = parser.parse_args()
    if arguments.one:
        width, layers, model = arguments.one
        return one(int(width), int(layers), model)
    print("| width | layers | held | model GB | peak GB | seconds | sparsity |")
    print("|---|---|---|---|---|---|---|")
    for width in arguments.sizes:
        for layers in arguments.layers:
            shape = Shape(width, layers)
            size = (shape.outside + layers * shape.block) * FLOAT / 1e9
            for model in arguments.held:
                facts = measure(shape, model)
                print(
                    f"| {width} | {layers} | {model} | {size:.2f} | {facts['peak'] / 1e9:.2f} "
                    f"| {facts['seconds']:.0f} | {facts['sparsity']:.4f} |",
                    flush=True,
                )
    print(f"\n7B in float32 ({FULL_LAYERS} layers, {FULL_SAMPLES} x {FULL_LENGTH} tokens):")
    whole = Shape(4096, FULL_LAYERS)
    print(f"- all weights: {(whole.outside + FULL_LAYERS * whole.block) * FLOAT / 1e9:.1f} GB")
    for name, size in arithmetic(whole, FULL_SAMPLES, FULL_LENGTH).items():
        print(f"- {name}: {size:.2f} GB")


if __name__ == "__main__":
    main()
