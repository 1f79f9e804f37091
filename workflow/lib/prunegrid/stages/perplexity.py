"""Stage `perplexity`: a checkpoint's perplexity on a split's text, the loss of each window kept.

Parents: weights, data. Out: `windows.parquet`: window (a document by protocol words), its scored
tokens, loss (their sum in nats), units (tokens or words, by which the sum is divided). The weights
are measured after loading and compared with their manifest before the first window.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.common import precision
from prunegrid.common.perplexity_names import metric_name
from prunegrid.data.rows import read_texts, require_length
from prunegrid.evaluation.passages import passages
from prunegrid.evaluation.perplexity import window_losses
from prunegrid.models import open_checkpoint
from prunegrid.models.forward import max_positions

PACKAGES = ("any weights", "pandas", "pyarrow")
COMPUTES = True
GROUP = "evaluate"
BYTES_A_PARAMETER = 7.2
FITS = ("causal-lm",)

SCHEMA = pa.schema(
    [("window", pa.int64()), ("tokens", pa.int64()), ("loss", pa.float64()), ("units", pa.int64())]
)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {metric, perplexity, unit, windows, tokens, text_tokens, …, weights}.

    Args:
        settings: {split, column, protocol, window, stride, max_windows, special_tokens}.
        parents: {"weights": a weights artifact of a causal model, "data": a data artifact}.

    Raises:
        PrunegridError: the text is too short, a window exceeds the model's positions, or a loss is
            not finite.
    """
    texts = read_texts(parents["data"], settings["split"], settings["column"], job.where)
    cache, dtype = settings["cache_dequantized"], precision.of_job(job)
    loaded = open_checkpoint.load(
        parents["weights"],
        job.device,
        cache,
        compute_dtype=dtype,
        asked_by="perplexity",
        where=job.where,
    )
    protocol, window, stride = settings["protocol"], settings["window"], settings.get("stride")
    require_length(window, max_positions(loaded.model), "window", job.where)
    found = passages(loaded.tokenizer, texts, settings, job.where)
    columns: dict[str, list] = {"tokens": [], "loss": [], "units": []}
    for passage in found:
        losses = window_losses(loaded.model, passage.tokens, passage.plan, job.where)
        scored = passage.rows([window.scored for window in passage.plan])
        columns["tokens"] += scored
        columns["loss"] += passage.rows(losses)
        columns["units"] += scored if passage.words is None else [passage.words]
    tokens = [token for passage in found for token in passage.text_tokens]
    columns = {"window": list(range(len(columns["loss"]))), **columns}
    pq.write_table(pa.table(columns, schema=SCHEMA), out / "windows.parquet")
    mean = math.fsum(columns["loss"]) / sum(columns["units"])
    return {
        "metric": metric_name(protocol, window, stride, settings["special_tokens"]),
        "perplexity": math.exp(mean),
        "chance": chance(loaded.model, columns),
        "unit": "word" if protocol == "words" else "token",
        "windows": len(columns["loss"]),
        "tokens": sum(columns["tokens"]),
        "text_tokens": len(tokens),
        "tokens_sha256": hashlib.sha256(np.asarray(tokens, dtype="<i8").tobytes()).hexdigest(),
        "weights": loaded.record,
    }


def chance(model: Any, columns: dict[str, list]) -> float:
    """Return the perplexity of a uniform guess: the number of tokens that can be chosen.

    By words it is that to the power of tokens a word.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]
    return math.exp(math.log(vocabulary) * sum(columns["tokens"]) / sum(columns["units"]))
