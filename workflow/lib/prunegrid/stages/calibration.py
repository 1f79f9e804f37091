"""Stage `calibration`: token windows drawn from a data set, and the dense model's input norms.

Parents: model, data. Out: `tokens.safetensors` {"tokens": int64 [samples, length]} and
`input_norms.safetensors` {full linear name: float32 [d_in], mean of x² over all tokens that reach
it}, with the number of tokens of those linears that fewer reach (experts).
"""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save_file

from prunegrid.data.rows import read_texts, require_length
from prunegrid.models.attestation import tensor_sha256
from prunegrid.models.forward import max_positions
from prunegrid.pruning import offload
from prunegrid.pruning.calibration_windows import draw_windows
from prunegrid.pruning.dense_statistics import dense_norm_stats, write_norms

DOES = "calibrate"
RULE = "calibrate"
PACKAGES = ("plain weights", "pandas", "pyarrow")
COMPUTES = True
BYTES_A_PARAMETER = 5.5
BY_BLOCK = True


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {samples, length, documents, tokens_sha256, weights}.

    Args:
        settings: {samples, length, split, column, join}.
        parents: {"model": a weights artifact, "data": a data artifact}.

    Raises:
        PrunegridError: no document is long enough, or the model is not finite.
    """
    texts = read_texts(parents["data"], settings["split"], settings["column"], job.where)
    loaded = offload.open_dense(parents["model"], job)
    length = settings["length"]
    require_length(length, max_positions(loaded.model), "length", job.where)
    tokens = draw_windows(
        texts,
        lambda text: loaded.tokenizer(text, verbose=False)["input_ids"],
        settings["samples"],
        length,
        job.seed("calibration"),
        job.where,
        join=settings.get("join", False),
    )
    save_file({"tokens": tokens}, out / "tokens.safetensors")
    stats = dense_norm_stats(loaded.model, tokens, loaded.holding)
    write_norms(stats, out / "input_norms.safetensors", len(tokens) * length)
    return {
        "samples": len(tokens),
        "length": length,
        "documents": len(texts),
        "tokens_sha256": tensor_sha256(tokens),
        "weights_sha256": loaded.record["sha256"],
    }
