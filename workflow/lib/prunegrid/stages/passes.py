"""Stage `passes`: time, memory and size of a checkpoint of any architecture, in a fresh process.

What is timed is one whole forward pass, so that encoders, decoders and encoder-decoders have the
same measure: `prompt_tokens` through the encoder or decoder, and of an encoder-decoder `new_tokens`
through its decoder as well. Nothing is generated, so there is no speed of decoding. With `sizes`
the file of weights is also compressed with gzip.

Parents: weights; `dense`, the untouched model of the chain, where the weights are others. Out:
`efficiency.json` with every repetition and turn, as the stage `efficiency` writes it.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError
from prunegrid.evaluation import side_by_side
from prunegrid.models.checkpoint import Checkpoint

DOES = "passes"
RULE = "passes"
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "peft",
    "bitsandbytes",
)
COMPUTES = True
GROUP = "evaluate"
START_SECONDS = 15
MEASURES_MEMORY = True

GZIP_LEVEL = 6


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: medians and quartiles, ratios to dense, memory, energy, sizes, threads.

    Args:
        settings: warmup, repetitions, prompt_tokens, new_tokens, batch_size, cache_dequantized,
            sizes.

    Raises:
        PrunegridError: there is nothing to measure, or more tokens than the model has positions.
    """
    loaded, facts, every = side_by_side.measure("passes", settings, parents, job)
    facts["sparse_kernels"] = None
    facts["sizes"] = _sizes(loaded, out, job.where) if settings["sizes"] else None
    file_io.write_json(out / "efficiency.json", {**facts, **every})
    return {"weights": loaded.record, **facts}


def _sizes(loaded: Checkpoint, out: Path, where: str) -> dict:
    """Return the bytes in several forms (see `prunegrid.evaluation.sizes`), and compressed."""
    # Not before: what they import takes memory while models are timed.
    from prunegrid.evaluation import sizes
    from prunegrid.models.packed import plain_tensors

    tensors = plain_tensors.of(loaded)
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
