"""What a timing takes, and what it says of a model beside itself and beside half of its layers.

    python benchmarks/speed/run.py memory           # peak memory of the step, by weight format
    python benchmarks/speed/run.py ratio            # a copy of the model, and half of its layers
    python benchmarks/speed/run.py ratio --neighbour

The model is random, of SmolLM2-135M's shape, float32, one thread. Each line of `memory` is a
process of its own.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow/lib"))

from prunegrid.common.determinism import settle_torch  # noqa: E402 - it needs the path above

settle_torch(1)

from prunegrid.artifacts import artifact_folder  # noqa: E402
from prunegrid.common import cpu_counters, device_meters, file_io  # noqa: E402
from prunegrid.evaluation import disturbance, speed, speed_ratio, timed_work  # noqa: E402
from prunegrid.models import checkpoint  # noqa: E402
from prunegrid.running import resources  # noqa: E402
from prunegrid.stages import efficiency, transform  # noqa: E402

PLAIN = {"prompt_tokens": 128, "batch_size": 1}
JOB = SimpleNamespace(
    device="cpu", threads=1, where="benchmark", alone="machine", compute_dtype="float32"
)
KEPT, SIZES = {"cache_dequantized": True}, {"sizes": True}
LINES = [
    ("dense", {}), ("pruned", {}), ("pruned", SIZES), ("bfloat16", {}), ("nf4", {}), ("nf4", KEPT),
    ("nf4", SIZES), ("int8", KEPT), ("nf4", KEPT | SIZES),
]  # fmt: skip


def random_model():
    """Return a random model of SmolLM2-135M's shape, in eval mode."""
    # Not above: a process that is measured must hold no more than a job does.
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
        tie_word_embeddings=True,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config).eval()


def finish(folder: Path, weights: dict) -> None:
    """Write the manifest's record, as far as a timing reads it."""
    file_io.write_json(folder / artifact_folder.MANIFEST, {"record": {"weights": weights}})


def make(folder: Path) -> None:
    """Write the weights in each format."""
    model = random_model()
    for name in ("dense", "pruned"):
        (folder / name).mkdir()
        finish(folder / name, checkpoint.write_plain(model, None, folder / name, None).record)
    for precision in ("bfloat16", "nf4", "int8"):
        (folder / precision).mkdir()
        settings = {"strategy": "quantize", "precision": precision, "double_quant": True}
        parents = {"weights": folder / "pruned"}
        record = transform.run(settings, parents, folder / precision, JOB)
        finish(folder / precision, record["weights"])


def memory() -> None:
    """Print a line a format: what was measured, and what the step asks for."""
    print("| weights | settings | measured, MB | asked for, MB |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        make(Path(place))
        for name, settings in LINES:
            command = [sys.executable, __file__, "one", "--folder", place, "--weights", name]
            subprocess.run([*command, *settings], check=True, stderr=subprocess.DEVNULL)


def one(folder: Path, name: str, chosen: list[str]) -> None:
    """Print the line of one format, measured in this process and its children."""
    import psutil

    settings = {key: key in chosen for key in ("cache_dequantized", "sizes")}
    settings |= PLAIN | {"warmup": 0, "repetitions": 1, "new_tokens": 4}
    parents = {"weights": folder / name} | ({} if name == "dense" else {"dense": folder / "dense"})
    most, me = [0], psutil.Process()

    def watch() -> None:
        while True:
            try:
                held = sum(p.memory_info().rss for p in [me, *me.children(recursive=True)])
                most[0] = max(most[0], held)
            except psutil.Error:
                pass
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory() as out:
        record = efficiency.run(settings, parents, Path(out), JOB)
    count = record["parameters"] * len(parents)
    precision = None if name in ("dense", "pruned") else name
    step = resources.Step("efficiency", settings, count, precision=precision)
    measured = max(most[0], device_meters.peak_memory()) / 1e6
    said = ", ".join(chosen)
    print(f"| {name} | {said} | {measured:,.0f} | {resources.memory(step):,.0f} |", flush=True)


def ratio(rounds: int, tries: int) -> None:
    """Print what turns with a copy and with half of the layers say."""
    model = random_model()
    half = copy.deepcopy(model)
    half.model.layers = half.model.layers[:15]
    cells = {"itself": model, "a copy": copy.deepcopy(model), "half of its layers": half}
    settings = PLAIN | {"warmup": 1, "repetitions": rounds, "new_tokens": 32}
    print("| beside | phase | ratio (99.9%) | disturbed |\n| --- | --- | --- | --- |")
    for name in cells:
        for _ in range(tries):
            here = cpu_counters.Machine()
            works = {
                role: timed_work.generation(each, settings, "cpu", name)
                for role, each in (("dense", model), ("cell", cells[name]))
            }
            turns, _ = speed.measure(works, settings, "cpu", here)
            why = "; ".join(disturbance.reasons(turns, here.capacity, "cpu"))
            for phase, found in speed_ratio.ratios(turns, "cell", "dense").items():
                shown = f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
                print(f"| {name} | {phase} | {shown} | {why} |", flush=True)


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("memory", "ratio", "one"))
    parser.add_argument("chosen", nargs="*")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--neighbour", action="store_true")
    options = parser.parse_args()
    if options.what == "memory":
        memory()
    elif options.what == "one":
        one(options.folder, options.weights, options.chosen)
    else:
        busy = [sys.executable, "-c", "while True: sum(range(10**6))"]
        neighbour = subprocess.Popen(busy) if options.neighbour else None
        try:
            ratio(options.rounds, options.tries)
        finally:
            if neighbour:
                neighbour.kill()


if __name__ == "__main__":
    main()
