"""Stage `distances`: how far a checkpoint's next tokens are from the dense model's, on a text.

Parents: weights, data, and `dense`, the untouched weights of the same model; without it the weights
are that themselves. Out: `windows.parquet`: a row a window (a document by protocol words) with its
scored tokens, how many of their likeliest are the dense model's, and the sums of KL and of both
losses in nats; `scores.parquet`: metric, id, value, weight, whose score is Σ value / Σ weight.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from prunegrid.common import precision
from prunegrid.common.errors import PrunegridError
from prunegrid.common.file_io import json_sha256
from prunegrid.data.rows import read_texts, require_length
from prunegrid.evaluation import distances
from prunegrid.evaluation.harness import task_scores
from prunegrid.evaluation.passages import Passage, passages
from prunegrid.models import open_checkpoint
from prunegrid.models.checkpoint import Checkpoint
from prunegrid.models.forward import max_positions

DOES = "compare"
RULE = "compare"
PACKAGES = ("any weights", "pandas", "pyarrow")
COMPUTES = True
GROUP = "evaluate"
BYTES_A_PARAMETER = 7.2
FITS = ("causal-lm",)
CITE = ("dutta2024accuracy", "nikolic2026displacement")

SUMS = ("agree", "kl", "loss", "dense_loss")
WINDOWS = pa.schema(
    [("window", pa.int64()), ("tokens", pa.int64()), *((name, pa.float64()) for name in SUMS)]
)
SCORES = task_scores.SCORES.append(pa.field("weight", pa.float64()))
# {metric: (the sum that it is a mean of, whether more of it is better)}.
METRICS = {"agreement": ("agree", True), "kl": ("kl", False)}


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {summary, rows, tokens, items_sha256, …, weights}.

    Args:
        settings: of the stage `perplexity`, whose windows are these.
        parents: {"weights", "data"}, and "dense" where that is another artifact.

    Raises:
        PrunegridError: as of `perplexity`; the two models have other tokens, or logits that are
            not finite.
    """
    texts = read_texts(parents["data"], settings["split"], settings["column"], job.where)
    loaded = _load("weights", settings, parents, job)
    dense = _load("dense", settings, parents, job) if "dense" in parents else loaded
    found = passages(loaded.tokenizer, texts, settings, job.where)
    if found != passages(dense.tokenizer, texts, settings, job.where):
        raise PrunegridError(
            "the tokenizer cuts the text into other tokens than the dense model's",
            where=job.where,
            expected="the tokenizer of the model that it was made of",
            remedy="delete this cell's weights and run again",
        )
    columns = _measured(loaded, dense, found, job.where)
    pq.write_table(pa.table(columns, schema=WINDOWS), out / "windows.parquet")
    pq.write_table(_scores(columns), out / "scores.parquet")
    tokens = [token for passage in found for token in passage.text_tokens]
    scored = sum(columns["tokens"])
    digest = hashlib.sha256(np.asarray(tokens, dtype="<i8").tobytes()).hexdigest()
    return {
        "summary": _summary(columns),
        "rows": len(columns["window"]),
        "tokens": scored,
        # Items of equal digests can be compared in pairs; losses of other weights differ.
        "items_sha256": json_sha256([digest, columns["tokens"]]),
        "answers_sha256": json_sha256(columns["loss"]),
        "contexts_cut": 0,
        "shots": None,
        "version": None,
        "harness": None,
        "dense_sha256": dense.record["sha256"],
        "weights": loaded.record,
    }


def _summary(columns: dict[str, list]) -> dict[str, dict]:
    """Return metric → its mean over tokens, and what else the table asks of a score."""
    scored = sum(columns["tokens"])
    same = {"stderr": None, "n": len(columns["window"]), "items": True, "distance": True}
    same |= {"chance": None, "majority": None}
    return {
        metric: {"mean": math.fsum(columns[name]) / scored, "higher_is_better": upwards, **same}
        for metric, (name, upwards) in METRICS.items()
    }


def _load(role: str, settings: dict, parents: dict[str, Path], job) -> Checkpoint:
    loaded = open_checkpoint.load(
        parents[role],
        job.device,
        settings["cache_dequantized"],
        compute_dtype=precision.of_job(job),
        asked_by="distances",
        where=job.where,
    )
    require_length(settings["window"], max_positions(loaded.model), "window", job.where)
    return loaded


def _measured(
    loaded: Checkpoint, dense: Checkpoint, found: list[Passage], where: str
) -> dict[str, list]:
    """Return the columns of `windows.parquet`."""
    distances.require_same_vocabulary(loaded.model, dense.model, where)
    columns: dict[str, list] = {name: [] for name in ("tokens", *SUMS)}
    for passage in found:
        measured = distances.window_distances(
            loaded.model, dense.model, passage.tokens, passage.plan, where
        )
        columns["tokens"] += passage.rows([window.scored for window in passage.plan])
        for name in SUMS:
            columns[name] += passage.rows([getattr(one, name) for one in measured])
    return {"window": list(range(len(columns["tokens"]))), **columns}


def _scores(columns: dict[str, list]) -> pa.Table:
    rows = [
        {"metric": metric, "id": str(window), "value": value, "weight": tokens}
        for metric, (name, _) in METRICS.items()
        for window, value, tokens in zip(
            columns["window"], columns[name], columns["tokens"], strict=True
        )
    ]
    return pa.Table.from_pylist(rows, schema=SCORES)
