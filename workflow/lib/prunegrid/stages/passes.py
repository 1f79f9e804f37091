"""Stage `passes`: time, memory and size of a checkpoint of any architecture, in a fresh process.

What is timed is one whole forward pass, so that encoders, decoders and encoder-decoders have the
same measure: `prompt_tokens` through the encoder or decoder, and of an encoder-decoder `new_tokens`
through its decoder as well. Nothing is generated, so there is no speed of decoding. With `sizes`
the file of weights is also compressed with gzip.

Parent: weights. Out: `efficiency.json` with every repetition, as the stage `efficiency` writes it.
"""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid import artifacts, clock, energy, evaluated, forward
from prunegrid.checkpoint import Checkpoint
from prunegrid.errors import AttestationError, PrunegridError
from prunegrid.meters import peak_memory, synchronize
from prunegrid.stages.efficiency import MEMORY, require_sizes
from prunegrid.timing import quartiles

log = logging.getLogger(__name__)

GZIP_LEVEL = 6


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: medians and quartiles, peak memory, energy, sizes, threads.

    Args:
        settings: warmup, repetitions, prompt_tokens, new_tokens, batch_size, cache_dequantized,
            sizes.

    Raises:
        PrunegridError: there is nothing to measure, or more tokens than the model has positions.
    """
    require_sizes(settings, job.where)
    loaded = evaluated.load(parents["weights"], job.device, settings["cache_dequantized"])
    limit = forward.max_positions(loaded.model)
    needed = max(settings["prompt_tokens"], settings["new_tokens"])
    if limit is not None and needed > limit:
        raise PrunegridError(
            f"prompt_tokens or new_tokens is {needed}",
            where=job.where,
            expected=f"at most the model's {limit} positions",
        )
    summary, seconds = measure(loaded.model, settings, job.device)
    sized = _sizes(loaded, out, job.where) if settings["sizes"] else None
    kind = "cuda" if job.device.startswith("cuda") else "cpu"
    facts = {
        **summary,
        "decode_tokens_per_second": None,
        "peak_memory_is": MEMORY[kind],
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(job.device) if kind == "cuda" else "cpu",
        "settings": settings,
        "sparse_kernels": None,
        "sizes": sized,
    }
    repetitions = {"prefill_seconds": seconds}
    artifacts.write_json(out / "efficiency.json", {**facts, "repetitions": repetitions})
    return {"weights": loaded.record, **facts}


def inputs_of(model: nn.Module, settings: Mapping, device: str) -> dict[str, Tensor]:
    """Return the same drawn tokens each time, [batch, tokens]: any cost the same."""
    generator = torch.Generator().manual_seed(0)
    rows = forward.inner(model).get_input_embeddings().num_embeddings
    batch = settings["batch_size"]

    def draw(tokens: int) -> Tensor:
        return torch.randint(rows, (batch, tokens), generator=generator).to(device)

    ids = draw(settings["prompt_tokens"])
    found = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if forward.is_encoder_decoder(forward.inner(model)):
        found["decoder_input_ids"] = draw(settings["new_tokens"])
    return found


def measure(model: nn.Module, settings: Mapping, device: str) -> tuple[dict, list[float]]:
    """Return the summary of a model's forward passes, and the seconds of every repetition.

    Returns:
        {prefill_seconds, prefill_tokens_per_second: {median, q1, q3}, peak_memory_bytes,
        energy_joules, energy_method}; tokens are all that were given, the decoder's too.
    """
    inputs = inputs_of(model, settings, device)
    tokens = sum(t.numel() for name, t in inputs.items() if name.endswith("input_ids"))
    accepted = forward.forward_parameters(model)
    once = {"use_cache": False} if "use_cache" in accepted else {}
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    seconds: list[float] = []
    joules: list[Any] = []
    meter = energy.meter(device)
    total = settings["warmup"] + settings["repetitions"]
    for turn in tqdm(range(total), disable=None, unit="pass"):
        if turn == settings["warmup"]:
            joules.append(meter.joules())
        with clock.running("efficiency"), torch.inference_mode():
            synchronize(device)
            began = time.perf_counter()
            model(**inputs, **once)
            synchronize(device)
            spent = time.perf_counter() - began
        log.info("pass %d of %d: %.3f s", turn + 1, total, spent)
        if turn >= settings["warmup"]:
            seconds.append(spent)
            joules.append(meter.joules())
    return {
        "prefill_seconds": quartiles(seconds),
        "prefill_tokens_per_second": quartiles([tokens / s for s in seconds]),
        "peak_memory_bytes": peak_memory(device),
        "energy_joules": None if None in joules else (joules[-1] - joules[0]) / len(seconds),
        "energy_method": meter.method,
    }, seconds


def _sizes(loaded: Checkpoint, out: Path, where: str) -> dict:
    """Return the bytes in several forms (see `prunegrid.packing.sizes`), and compressed."""
    # Not before: what they import would be in the peak of memory of every row.
    from prunegrid.packing import plain, sizes

    tensors = plain.of(loaded)
    found = sizes.measure(tensors, loaded.record["pattern"], out, where)
    found["bytes"]["gzip"] = gzip_bytes(tensors.tensors, out, where)
    return found


def gzip_bytes(tensors: Mapping[str, Tensor], folder: Path, where: str) -> int:
    """Return the bytes of the file of tensors, as stored, compressed by gzip; both are removed.

    Raises:
        AttestationError: what is decompressed is not what was compressed.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="gzip-") as place:
        whole, packed = Path(place, "weights.safetensors"), Path(place, "weights.gz")
        save_file({n: t.contiguous() for n, t in tensors.items()}, whole, {"format": "pt"})
        # Without a name and a time in its header, equal files give equal bytes.
        with (
            whole.open("rb") as source,
            packed.open("wb") as sink,
            gzip.GzipFile("", "wb", GZIP_LEVEL, sink, mtime=0) as stream,
        ):
            shutil.copyfileobj(source, stream, 2**20)
        with gzip.open(packed) as stream, whole.open("rb") as source:
            while piece := source.read(2**20):
                if stream.read(len(piece)) != piece:
                    raise AttestationError("gzip gives back other bytes", where=where)
        return packed.stat().st_size
