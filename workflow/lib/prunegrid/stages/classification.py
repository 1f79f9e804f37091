"""Stage `classification`: a head tuned on a frozen, attested encoder, tested on a held-out split.

Parents: weights (of an encoder), data (of the stage `rows`). Out: `scores.parquet` (metric, id,
value: one row an item), `samples.parquet` (text, label, predicted, logits), `head.safetensors`.
The weights are measured after loading and compared with their manifest; the head's digest is in the
record beside theirs.
"""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save_file

from prunegrid.common import file_io, precision
from prunegrid.common.errors import PrunegridError
from prunegrid.data.labelled_items import Item, read_items
from prunegrid.evaluation import classification_head
from prunegrid.evaluation.harness.task_scores import SCORES, percentiles
from prunegrid.models import open_checkpoint
from prunegrid.models.checkpoint import Checkpoint
from prunegrid.models.forward import inner, max_positions

DOES = "classify"
RULE = "classify"
PACKAGES = ("any weights", "pandas", "pyarrow", "jinja2")
COMPUTES = True
GROUP = "evaluate"
BYTES_A_PARAMETER = 8
FITS = ("encoder", "masked-lm")

SAMPLES = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "text", "pair", "label", "predicted")),
        ("logits", pa.list_(pa.float32())),
    ]
)
RESAMPLES = 1000  # of the standard error of a correlation


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {labels, summary, head_sha256, train, items_sha256, …, weights}.

    Args:
        settings: train_split, train_rows, split, rows, items, max_tokens, epochs, batch_size,
            learning_rate, metrics, seed.
        parents: {"weights": a weights artifact of an encoder, "data": rows}.

    Raises:
        PrunegridError: rows that do not fill the templates, a label that is not learned, or a
            model that has no such head.
    """
    learned, asked, labels = _items(settings, parents["data"], job.where)
    loaded = open_checkpoint.load(
        parents["weights"],
        job.device,
        compute_dtype=precision.of_job(job),
        asked_by="classification",
        where=job.where,
    )
    encoder = inner(loaded.model)
    head = classification_head.Head(encoder, len(labels), job.seed("head"))
    limit = min(settings["max_tokens"], max_positions(encoder) or settings["max_tokens"])
    size = settings["batch_size"]
    learned_states, learned_cut, learned_seconds = _states(loaded, learned, limit, size, head)
    states, cut, seconds = _states(loaded, asked, limit, size, head)
    targets = torch.tensor([labels.index(item.label) for item in learned])
    facts = classification_head.tune(head, learned_states, targets, settings, job.seed("order"))
    logits = classification_head.logits_of(head, states)
    answers = [labels[number] for number in logits.argmax(-1).tolist()]
    save_file(head.tensors(), out / "head.safetensors")
    _write(asked, answers, logits, out)
    return {
        "labels": labels,
        "harness": f"transformers {metadata.version('transformers')}",
        "version": None,
        "shots": None,
        "summary": summarize(asked, answers, labels, settings["metrics"], job.seed("resamples")),
        "rows": len(asked),
        # Items of equal digests can be compared in pairs.
        "items_sha256": file_io.json_sha256([[i.id, i.text, i.pair, i.label] for i in asked]),
        "answers_sha256": hashlib.sha256(logits.numpy().tobytes()).hexdigest(),
        "contexts_cut": learned_cut + cut,
        "encode_seconds": learned_seconds + seconds,
        "train": facts,
        "head_sha256": head.sha256(),
        "head_parameters": sum(p.numel() for p in head.parameters()),
        "weights": loaded.record,
    }


def _items(settings: dict, data: Path, where: str) -> tuple[list[Item], list[Item], list[str]]:
    """Return the items that are learned, those that are asked, and the labels in order."""
    learned, asked = (
        read_items(data, settings[split], settings[rows], settings["items"], where)
        for split, rows in (("train_split", "train_rows"), ("split", "rows"))
    )
    labels = sorted({item.label for item in learned})
    _require_known(labels, asked, where)
    return learned, asked, labels


def _states(
    loaded: Checkpoint, items: list[Item], limit: int, size: int, head: torch.nn.Module
) -> tuple[torch.Tensor, int, float]:
    """Return (first states of the items, items that were cut at `limit` tokens, seconds)."""
    texts = [(item.text, item.pair) for item in items]
    encoded, cut = classification_head.encode(loaded.tokenizer, texts, limit)
    states, seconds = classification_head.first_states(
        inner(loaded.model), loaded.tokenizer, encoded, size, head
    )
    return states, cut, seconds


def summarize(
    asked: list[Item], answers: list[str], labels: list[str], metrics: list[str], seed: int
) -> dict[str, dict]:
    """Return {metric: mean, stderr, n, higher_is_better, items, chance, majority}.

    `acc` is the share of right answers; `mcc` Matthews' correlation (1975; of several classes
    Gorodkin's, 2004), whose standard error is bootstrapped over items.
    """
    true = np.array([labels.index(item.label) for item in asked])
    said = np.array([labels.index(answer) for answer in answers])
    right = (true == said).astype(float)
    n = len(true)
    summary = {
        "acc": {
            "mean": float(right.mean()),
            "stderr": float(right.std(ddof=1) / n**0.5) if n > 1 else None,
            "items": True,
            "chance": 1 / len(labels),
            "majority": float(np.bincount(true).max() / n),
        },
    }
    if "mcc" in metrics:
        picks = np.random.default_rng(seed).integers(0, n, size=(RESAMPLES, n))
        drawn = correlation(true[picks], said[picks], len(labels))
        summary["mcc"] = {
            "mean": float(correlation(true, said, len(labels))),
            "stderr": float(drawn.std(ddof=1)),
            **percentiles(drawn),
            "items": False,
            # No guess correlates with the answer.
            "chance": 0.0,
            "majority": 0.0,
        }
    return {metric: {**summary[metric], "n": n, "higher_is_better": True} for metric in metrics}


def correlation(true: np.ndarray, said: np.ndarray, classes: int) -> np.ndarray:
    """Return Matthews' correlation over the last axis; 0 where one side has a single class.

    With c right answers of n, t items of each class and p answers of it (Gorodkin's equation 8):
    (cn - Σ tp) / √((n² - Σ p²)(n² - Σ t²)).

    Args:
        true, said: class numbers [..., n].
        classes: how many there are.
    """
    n = true.shape[-1]
    t, p = (
        np.stack([(side == k).sum(-1) for k in range(classes)]).astype(float)
        for side in (true, said)
    )
    above = (true == said).sum(-1) * n - (t * p).sum(0)
    below = np.sqrt((n**2 - (p**2).sum(0)) * (n**2 - (t**2).sum(0)))
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def _require_known(labels: list[str], asked: list[Item], where: str) -> None:
    for item in asked:
        if item.label not in labels:
            raise PrunegridError(
                f"item {item.id} has the label {item.label!r}",
                where=where,
                expected=f"one of those that are learned: {labels}",
                remedy="learn more rows, or name the right column",
            )
    if len(labels) < 2:
        raise PrunegridError(f"all learned items have the label {labels[0]!r}", where=where)


def _write(asked: list[Item], answers: list[str], logits: torch.Tensor, out: Path) -> None:
    rows = [
        {**vars(item), "predicted": answer, "logits": line}
        for item, answer, line in zip(asked, answers, logits.tolist(), strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLES), out / "samples.parquet")
    scores = [
        {"metric": "acc", "id": item.id, "value": float(item.label == answer)}
        for item, answer in zip(asked, answers, strict=True)
    ]
    pq.write_table(pa.Table.from_pylist(scores, schema=SCORES), out / "scores.parquet")
