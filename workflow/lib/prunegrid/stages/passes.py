"""Stage `passes`: time, memory and size of a checkpoint of any architecture, in a fresh process.

One whole forward pass is timed, so that encoders, decoders and encoder-decoders have the same
measure: `prompt_tokens` through the encoder or decoder, and of an encoder-decoder `new_tokens`
through its decoder as well. Nothing is generated, so there is no speed of decoding. With `sizes`
the file of weights is also compressed by gzip.

Parents: weights; `dense`, the untouched model of the chain, where the weights are others. Out:
`efficiency.json` with every repetition and turn, as the stage `efficiency` writes it.
"""

from __future__ import annotations

from pathlib import Path

from prunegrid.common import file_io
from prunegrid.evaluation import side_by_side

PACKAGES = ("any weights", "scipy")
COMPUTES = True
GROUP = "evaluate"
MEASURES_MEMORY = True


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record: medians and quartiles, ratios to dense, memory, energy, sizes, threads.

    Args:
        settings: warmup, repetitions, prompt_tokens, new_tokens, batch_size, cache_dequantized,
            sizes.

    Raises:
        PrunegridError: there are more tokens than the model has positions.
    """
    loaded, facts, every = side_by_side.measure("passes", settings, parents, job)
    facts["sparse_kernels"] = None
    facts["sizes"] = side_by_side.sizes_on_disk(loaded, settings, out, job.where, gzipped=True)
    file_io.write_json(out / "efficiency.json", {**facts, **every})
    return {"weights": loaded.record, **facts}
