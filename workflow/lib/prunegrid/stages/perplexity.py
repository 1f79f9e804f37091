"""Stage `perplexity`: a checkpoint's perplexity on a split's text, the loss of each window kept.

Parents: weights, data. Out: `windows.parquet` (window, tokens, loss: the sum in nats). The weights
are measured after loading and compared with their manifest before the first window.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid import evaluated
from prunegrid.errors import PrunegridError
from prunegrid.perplexity import metric_name, plan_windows, window_losses
from prunegrid.texts import read_texts, require_length

SCHEMA = pa.schema([("window", pa.int64()), ("tokens", pa.int64()), ("loss", pa.float64())])


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {metric, perplexity, windows, tokens, text_tokens, tokens_sha256, weights}.

    Args:
        settings: {split, column, protocol, window, stride, max_windows, join}; `join` stands
            between documents and is a blank line by default.
        parents: {"weights": a weights artifact of a causal model, "data": a data artifact}.
        out: folder of the new artifact.
        job: gives the device.

    Raises:
        PrunegridError: the text is too short, a window exceeds the model's positions, or a loss is
            not finite.
    """
    texts = read_texts(parents["data"], settings["split"], settings["column"], job.where)
    loaded = evaluated.load(parents["weights"], job.device, settings["cache_dequantized"])
    if loaded.tokenizer is None or not hasattr(loaded.model, "get_output_embeddings"):
        raise PrunegridError(
            "perplexity needs a causal language model with its tokenizer",
            where=str(parents["weights"]),
        )
    protocol, window, stride = settings["protocol"], settings["window"], settings.get("stride")
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    require_length(window, positions, "window", job.where)
    text = settings.get("join", "\n\n").join(texts)
    tokens = loaded.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    try:
        plan = plan_windows(len(tokens), protocol, window, stride, settings.get("max_windows"))
    except PrunegridError as error:
        raise PrunegridError(
            error.what, where=job.where, expected=error.expected, remedy=error.remedy
        ) from error
    losses = window_losses(loaded.model, tokens, plan, job.where)
    scored = [part.scored for part in plan]
    columns = {"window": list(range(len(plan))), "tokens": scored, "loss": losses}
    pq.write_table(pa.table(columns, schema=SCHEMA), out / "windows.parquet")
    mean = math.fsum(losses) / sum(scored)
    return {
        "metric": metric_name(protocol, window, stride),
        "perplexity": math.exp(mean),
        "windows": len(plan),
        "tokens": sum(scored),
        "text_tokens": len(tokens),
        "tokens_sha256": hashlib.sha256(np.asarray(tokens, dtype="<i8").tobytes()).hexdigest(),
        "weights": loaded.record,
    }
