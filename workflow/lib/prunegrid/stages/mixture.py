"""Stage `mixture`: rows of several data sets as prompts and responses, in one seeded order.

Parents: `parts.<name>` (artifacts of `rows` or `data`), `disjoint_from.<number>` (evaluated).
Out: `<split>.parquet` of id, document (the whole prompt), summary (the response), task (the part).
Fine-tuning reads them as it reads any data set.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from prunegrid.common.errors import PrunegridError
from prunegrid.data.leak_check import Known
from prunegrid.data.mixtures import counts
from prunegrid.data.sources.columns import text_of
from prunegrid.data.templates import Templates
from prunegrid.stages.data import check_apart, slice_of_all, write

DOES = "mix"
PACKAGES = ("pandas", "pyarrow", "datasets", "jinja2")
START_SECONDS = 60
MEMORY_MB = 1500

log = logging.getLogger(__name__)
SHOWN = 5  # rows of a leak that are named


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {parts: {name: rows, leaked, taken, share}, evaluated, splits, …}.

    Args:
        settings: parts {name: split, weight, max_rows, prompt, response, of, id, text}, rows, leaks
            ("drop" or "refuse"), disjoint_from [{split, of, id, text}], splits {name: slice of
            "all"}, seed.

    Raises:
        PrunegridError: a row leaks and leaks are refused, a part is too small, a template does not
            fit, or a split is empty.
    """
    known = Known()
    evaluated = [
        known.add(_read(parents[f"disjoint_from.{number}"], entry["split"]), entry, job.where)
        for number, entry in enumerate(settings["disjoint_from"])
    ]
    pools, facts = {}, {}
    for name, part in settings["parts"].items():
        folder = parents[f"parts.{name}"]
        pools[name], facts[name] = pool_rows(folder, name, part, known, settings["leaks"], job)
    parts = settings["parts"]
    sizes = {n: min(len(pool), parts[n]["max_rows"] or len(pool)) for n, pool in pools.items()}
    weights = {name: part["weight"] for name, part in parts.items()}
    taken = counts(sizes, weights, settings["rows"], job.where)
    rows = _mixed(settings, pools, taken, job)
    splits, listed = {}, {}
    for split, expression in settings["splits"].items():
        first, last = slice_of_all(expression, len(rows), job.where)
        splits[split] = rows[first:last]
        by_part = Counter(row["task"] for row in splits[split])
        listed[split] = {
            "from": expression,
            "rows": len(splits[split]),
            "parts": dict(sorted(by_part.items())),
        }
        listed[split]["sha256"] = write(splits[split], split, out, job.where)
    for name, count in taken.items():
        facts[name] |= {"capped": sizes[name], "taken": count, "share": count / len(rows)}
        log.info("%s: %s: %s", job.where, name, facts[name])
    return {
        "parts": facts,
        "evaluated": {"splits": len(evaluated), "rows": sum(evaluated)},
        "leaks": settings["leaks"],
        "splits": listed,
        "same_texts": check_apart(splits, "summaries", job.where),
    }


def _read(folder: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a split, batch by batch."""
    with pq.ParquetFile(Path(folder) / f"{split}.parquet") as file:
        for batch in file.iter_batches():
            yield from batch.to_pylist()


def pool_rows(
    folder: Path, name: str, part: dict, known: Known, leaks: str, job
) -> tuple[list[tuple[str, dict]], dict[str, Any]]:
    """Return ([(label, row)] of the rows that are not evaluated, in a drawn order; facts)."""
    pool, leaks_of = [], {"id": [], "text": []}
    for number, row in enumerate(_read(folder, part["split"])):
        label = str(number) if part["id"] is None else text_of(row, part["id"], job.where)
        why = known.holds(row, part, job.where)
        if why is None:
            pool.append((label, row))
        else:
            leaks_of[why].append(label)
    leaked = {why: len(labels) for why, labels in leaks_of.items()}
    if any(leaked.values()) and leaks == "refuse":
        shown = ", ".join((leaks_of["id"] + leaks_of["text"])[:SHOWN])
        raise PrunegridError(
            f"{sum(leaked.values())} rows of '{name}' are evaluated ({leaked['id']} by id, "
            f"{leaked['text']} by text), such as {shown}",
            where=job.where,
            remedy="take them out, or set leaks: drop",
        )
    random.Random(job.seed(f"mixture {name}")).shuffle(pool)
    return pool, {"rows": len(pool) + sum(leaked.values()), "leaked": leaked}


def _mixed(
    settings: dict, pools: dict[str, list[tuple[str, dict]]], taken: dict[str, int], job
) -> list[dict[str, str]]:
    """Return the rows of the mixture in their order."""
    rows = []
    for name, part in settings["parts"].items():
        texts = {"document": part["prompt"], "summary": part["response"]}
        templates = Templates(texts, f"{job.where}, part {name}")
        for label, row in pools[name][: taken[name]]:
            rows.append({"id": f"{name}:{label}", **templates.fill(row, label), "task": name})
    random.Random(job.seed("mixture")).shuffle(rows)
    return rows
