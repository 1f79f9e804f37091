"""Peak memory and time of a census of a large model, measured in a process of its own.

    python benchmarks/census/run.py                 # GPT2-XL's shape: 6.2 GB of random weights
    python benchmarks/census/run.py --layers 8      # less of it

The weights are drawn and written shard by shard, as `save_pretrained` names them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "workflow/lib"))

SHARD = 500_000_000  # bytes


def write(folder: Path, layers: int) -> None:
    """Write a random model of GPT2-XL's width into a folder."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("gpt2", n_embd=1600, n_head=25, n_layer=layers)
    config.architectures = ["GPT2LMHeadModel"]
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    shard, held, number = {}, 0, 0
    for name, parameter in model.named_parameters():
        shard[name] = 0.02 * torch.randn(parameter.shape)
        held += 4 * parameter.numel()
        if held >= SHARD:
            save_file(shard, folder / f"model-{number:05}.safetensors", {"format": "pt"})
            shard, held, number = {}, 0, number + 1
    save_file(shard, folder / f"model-{number:05}.safetensors", {"format": "pt"})


def measure(folder: Path) -> None:
    """Print the census's counts, seconds and peaks as JSON."""
    import torch
    import transformers.models.gpt2.modeling_gpt2  # noqa: F401 - what any census of a GPT-2 imports

    from prunegrid.config.studies import DECADES
    from prunegrid.models import weight_census

    torch.set_num_threads(1)
    before, began = _peak(), time.perf_counter()
    found = weight_census.take(folder, DECADES)
    seconds = time.perf_counter() - began
    facts = {"imports_mb": before, "peak_mb": _peak(), "seconds": round(seconds, 1)}
    print(json.dumps(facts | {"parameters": found.facts["parameters"]}))


def _peak() -> float:
    """Return the largest resident size of this process, MB; `ru_maxrss` would be its parent's."""
    status = Path("/proc/self/status").read_text()
    return round(int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e6, 1)


def main() -> None:
    """Write a model and take its census in a fresh process."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--layers", type=int, default=48, help="GPT2-XL has 48")
    options.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.of:
        measure(chosen.of)
        return
    with tempfile.TemporaryDirectory() as place:
        write(Path(place), chosen.layers)
        size = sum(path.stat().st_size for path in Path(place).glob("*.safetensors"))
        print(f"{size / 1e9:.2f} GB in {len(list(Path(place).glob('*.safetensors')))} shards")
        subprocess.run([sys.executable, __file__, "--of", place], check=True)


if __name__ == "__main__":
    main()
