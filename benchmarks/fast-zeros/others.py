"""What a user would take instead: the same weights in other runtimes, and quantized dense ones.

    python benchmarks/fast-zeros/others.py PRUNED DENSE TEXT --other PYTHON

PRUNED and DENSE are plain Llama folders: weights with zeros, and the same model without. TEXT is a
Parquet file with a column `text`. PYTHON is that of an environment with openvino, optimum-intel,
nncf, datasets, llama-cpp-python and gguf; without it those lines are left out. OpenVINO
decompresses sparse weights on a CPU with AMX only; elsewhere that line is of a plain int8 model.

Each line is a process of its own with two threads: greedy tokens a second after a prompt of 64
tokens, tokens a second of a prompt of 256, memory that loading and running add to the process,
bytes of the weight files, and the perplexity of 16 windows of 512 tokens.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

WINDOW, WINDOWS = 512, 16
FEW, MANY, PROMPT, LONG = 8, 40, 64, 256
ROUNDS, THREADS = 5, 2
# The weights of each form, and which runtime opens it with what.
FORMS = {
    "torch float32, dense": ("dense", "torch", "float32"),
    "torch bfloat16, dense": ("dense", "torch", "bfloat16"),
    "torch float32, pruned": ("pruned", "torch", "float32"),
    "packed float32, pruned": ("pruned", "packed", "float32"),
    "packed bfloat16, pruned": ("pruned", "packed", "bfloat16"),
    "packed int8, pruned": ("pruned", "packed", "int8"),
    "packed int8, dense": ("dense", "packed", "int8"),
    "OpenVINO float32, dense": ("dense", "openvino", "float32"),
    "OpenVINO int8 weights, dense": ("dense", "openvino", "int8"),
    "OpenVINO int8 weights, pruned": ("pruned", "openvino", "int8"),
    "OpenVINO int8, sparse decompression, pruned": ("pruned", "openvino", "sparse"),
    "llama.cpp F32, dense": ("dense", "llama", "F32"),
    "llama.cpp Q8_0, dense": ("dense", "llama", "Q8_0"),
    "llama.cpp Q4_0, dense": ("dense", "llama", "Q4_0"),
}
ELSEWHERE = ("openvino", "llama")


class Torch:
    """A model of transformers, or one that is called as such."""

    def __init__(self, folder: Path, kind: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(THREADS)
        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, kind)).eval()
        self.bytes = sum(path.stat().st_size for path in folder.glob("*.safetensors"))

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Return float32 [tokens, vocabulary]."""
        with self.torch.no_grad():
            return self.model(self.torch.from_numpy(ids)[None]).logits[0].float().numpy()

    def generate(self, ids: np.ndarray, count: int) -> None:
        """Write so many tokens greedily."""
        asked = {"do_sample": False, "min_new_tokens": count, "max_new_tokens": count}
        prompt = self.torch.from_numpy(ids)[None]
        with self.torch.no_grad():
            self.model.generate(
                prompt, attention_mask=self.torch.ones_like(prompt), pad_token_id=0, **asked
            )


class Packed(Torch):
    """A model with packed linears."""

    def __init__(self, folder: Path, kind: str) -> None:
        import torch

        from prunegrid import load_packed
        from prunegrid.models.packed.packed_checkpoint import WEIGHTS, pack

        torch.set_num_threads(THREADS)
        self.torch, self.model = torch, load_packed(folder, kind)
        with tempfile.TemporaryDirectory() as place:
            packed = Path(place) / "packed"
            pack(folder, packed)
            self.bytes = (packed / WEIGHTS).stat().st_size


class OpenVINO(Torch):
    """A model that optimum-intel exports and OpenVINO runs."""

    def __init__(self, folder: Path, kind: str) -> None:
        import torch
        from optimum.intel import OVModelForCausalLM

        config = {"INFERENCE_NUM_THREADS": str(THREADS), "PERFORMANCE_HINT": "LATENCY"}
        if kind == "sparse":  # linears with fewer zeros than this share stay dense
            config["CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE"] = "0.4"
        else:
            config["INFERENCE_PRECISION_HINT"] = "f32"
        self.torch = torch
        self.place = tempfile.mkdtemp()
        asked = {"export": True, "load_in_8bit": kind == "int8", "ov_config": config}
        model = OVModelForCausalLM.from_pretrained(folder, **asked)
        if kind == "sparse":
            self._quantize_inputs(model)
        else:
            model.save_pretrained(self.place)
        self.model = OVModelForCausalLM.from_pretrained(self.place, ov_config=config)
        self.bytes = sum(path.stat().st_size for path in Path(self.place).glob("*.bin"))

    def _quantize_inputs(self, model) -> None:
        """Write the model with int8 weights and inputs, calibrated on the windows."""
        from datasets import Dataset
        from optimum.intel import OVConfig, OVQuantizationConfig, OVQuantizer

        ids = np.load(sys.argv[-1])
        data = Dataset.from_dict({"input_ids": ids, "attention_mask": np.ones_like(ids)})
        OVQuantizer.from_pretrained(model).quantize(
            calibration_dataset=data, save_directory=self.place,
            ov_config=OVConfig(quantization_config=OVQuantizationConfig(bits=8)),
        )  # fmt: skip


class Llama:
    """A model that llama.cpp runs, from a GGUF file that is written here."""

    def __init__(self, folder: Path, kind: str) -> None:
        from llama_cpp import Llama as Runner

        path = Path(tempfile.mkdtemp()) / f"{kind}.gguf"
        write_gguf(folder, path, kind)
        self.bytes = path.stat().st_size
        facts = {"n_ctx": 1024, "n_threads": THREADS, "n_threads_batch": THREADS, "verbose": False}
        self.runner = Runner(str(path), logits_all=True, n_batch=512, **facts)
        self.writer = self.runner

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """Return float32 [tokens, vocabulary]."""
        self.runner.reset()
        self.runner.eval(ids.tolist())
        return np.array(self.runner.scores[: len(ids)])

    def generate(self, ids: np.ndarray, count: int) -> None:
        """Write so many tokens greedily."""
        self.writer.reset()
        self.writer.eval(ids.tolist())
        for _ in range(count - 1):
            token = int(np.argmax(self.writer.scores[self.writer.n_tokens - 1]))
            self.writer.eval([token])


def write_gguf(folder: Path, path: Path, kind: str) -> None:
    """Write a Llama folder as GGUF, its matrices (the embedding too) in a type of llama.cpp."""
    import gguf
    from gguf.quants import quantize
    from safetensors import safe_open
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    heads, kv = config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_rope_dimension_count(config.hidden_size // heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("llama")  # names that nobody reads: tokens go in as numbers
    writer.add_token_list([f"t{number}" for number in range(config.vocab_size)])
    writer.add_token_scores([0.0] * config.vocab_size)
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no dict
                weight = tensors.get_tensor(name).float().numpy()
                if "q_proj" in name or "k_proj" in name:
                    weight = in_pairs(weight, heads if "q_proj" in name else kv)
                told = names.get_name(name, try_suffixes=(".weight",))
                type_ = gguf.GGMLQuantizationType[kind if weight.ndim > 1 else "F32"]
                data = quantize(weight, type_)
                writer.add_tensor(told, data, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def in_pairs(weight: np.ndarray, heads: int) -> np.ndarray:
    """Return rows of q or k as llama.cpp rotates them: neighbours, not halves of a head."""
    halves = weight.reshape(heads, 2, len(weight) // heads // 2, weight.shape[1])
    return halves.swapaxes(1, 2).reshape(weight.shape)


RUNTIMES: dict[str, Callable] = {
    "torch": Torch, "packed": Packed, "openvino": OpenVINO, "llama": Llama,
}  # fmt: skip


def perplexity(model, windows: np.ndarray) -> float:
    """Return the perplexity of windows [n, tokens]: each token after the first of its window."""
    losses = []
    for ids in windows:
        logits = model.logits(ids)[:-1].astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        total = np.log(np.exp(logits).sum(1))
        losses.append(total - logits[np.arange(len(ids) - 1), ids[1:]])
    return float(np.exp(np.mean(losses)))


def best(work: Callable[[], None]) -> float:
    """Return the fewest seconds of ROUNDS."""
    seconds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def one(name: str, folder: Path, windows: np.ndarray) -> None:
    """Print the line of one form."""
    import psutil

    _, runtime, kind = FORMS[name]
    before = psutil.Process().memory_info().rss
    model = RUNTIMES[runtime](folder, kind)
    ids = windows[0]
    model.generate(ids[:PROMPT], FEW)
    resident = psutil.Process().memory_info().rss - before
    few, many = (best(lambda n=n: model.generate(ids[:PROMPT], n)) for n in (FEW, MANY))
    prefill = LONG / best(lambda: model.logits(ids[:LONG]))
    decode = (MANY - FEW) / (many - few)
    sizes = f"{resident / 1e6:.0f} | {model.bytes / 1e6:.0f}"
    print(f"| {name} | {decode:.1f} | {prefill:.0f} | {sizes} | {perplexity(model, windows):.2f} |")


def read_windows(folder: Path, text: Path) -> np.ndarray:
    """Return the first windows of a text's tokens, int64 [WINDOWS, WINDOW]."""
    import pandas
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("\n\n".join(pandas.read_parquet(text)["text"]))["input_ids"]
    return np.array(ids[: WINDOW * WINDOWS], dtype=np.int64).reshape(WINDOWS, WINDOW)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pruned", type=Path)
    parser.add_argument("dense", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--other", help="the Python of the other runtimes")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.pruned, np.load(options.text))
        return
    with tempfile.TemporaryDirectory() as place:
        windows = Path(place) / "windows.npy"
        np.save(windows, read_windows(options.dense, options.text))
        print("| form | tokens/s | prompt tokens/s | resident MB | file MB | perplexity |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        for name in options.forms:
            which, runtime, _ = FORMS[name]
            python = options.other if runtime in ELSEWHERE else sys.executable
            if python is None:
                continue
            folder = getattr(options, which)
            command = [python, __file__, "--one", name, str(folder), str(folder), str(windows)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"| {name} | {done.stderr.strip().splitlines()[-1][:200]} |", flush=True)
            else:
                print(done.stdout.strip().splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
