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
from prunegrid.common.errors import PrunegridError
from prunegrid.common.perplexity_names import metric_name
from prunegrid.data.rows import SEPARATOR, read_texts, require_length
from prunegrid.evaluation.perplexity import count_words, plan_rolling, plan_windows, window_losses
from prunegrid.models import open_checkpoint
from prunegrid.models.checkpoint import Checkpoint
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
    measure = _words if protocol == "words" else _windows
    columns, tokens = measure(loaded, texts, settings, job.where)
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


def _windows(
    loaded: Checkpoint, texts: list[str], settings: dict, where: str
) -> tuple[dict[str, list], list[int]]:
    """Return the columns of a row a window, and the tokens of all texts as one."""
    text = SEPARATOR.join(texts)
    special = settings["special_tokens"]
    tokens = loaded.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
    plan = plan_windows(
        len(tokens),
        settings["protocol"],
        settings["window"],
        settings.get("stride"),
        settings.get("max_windows"),
        where,
    )
    scored = [part.scored for part in plan]
    losses = window_losses(loaded.model, tokens, plan, where)
    return {"tokens": scored, "loss": losses, "units": scored}, tokens


def _words(
    loaded: Checkpoint, texts: list[str], settings: dict, where: str
) -> tuple[dict[str, list], list[int]]:
    """Return the columns of a row a document, and the tokens of all documents.

    Tokens are the harness's: the tokenizer's own special tokens stay, behind the one that every
    document begins with, unless the text has that by itself.
    """
    first = loaded.tokenizer.bos_token_id
    first = loaded.tokenizer.eos_token_id if first is None else first
    if first is None:
        raise PrunegridError(
            "the tokenizer has neither a BOS nor an EOS token to begin with", where=where
        )
    columns: dict[str, list] = {"tokens": [], "loss": [], "units": []}
    all_tokens: list[int] = []
    begin = loaded.tokenizer.decode([first])
    for text in [text for text in texts if text.strip()][: settings.get("max_windows")]:
        special = not text.startswith(begin)
        tokens = loaded.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        plan = plan_rolling(len(tokens) + 1, settings["window"])
        losses = window_losses(loaded.model, [first, *tokens], plan, where)
        columns["loss"].append(math.fsum(losses))
        columns["tokens"].append(len(tokens))
        columns["units"].append(count_words(text))
        all_tokens += tokens
    return columns, all_tokens
