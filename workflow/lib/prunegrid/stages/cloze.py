"""Stage `cloze`: passages of a data set's texts, each with its last word and three others.

It takes the place of the stage `rows` for data sets of kind cloze. Rows are those of
`data/last_words.py`, a split each; the texts are read as the stage `data` reads them.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow
import pyarrow.parquet

from prunegrid.common.errors import PrunegridError
from prunegrid.data import last_words
from prunegrid.data.sources import columns
from prunegrid.data.sources.fetched import describe
from prunegrid.stages.data import bounds, open_source, parse

DOES = "write"
PACKAGES = ("pandas", "pyarrow", "datasets", "huggingface-hub", "mwparserfromhell")
START_SECONDS = 60
MEMORY_MB = 900

log = logging.getLogger(__name__)


def run(settings: dict, parents: dict[str, Path], out: Path, job) -> dict:
    """Return the record {source, splits: {name: from, texts, rows, columns}} of the passages.

    Args:
        settings: source, format, columns {"text", and perhaps "id"}, splits {name: expression}.

    Raises:
        PrunegridError: the source cannot be read, a split or column is missing, or no passage of
            a split fits.
    """
    where = f"{job.where} ({describe(settings['source'])})"
    listed = {}
    with open_source(settings, job, where) as (sources, record):
        for name, expression in settings["splits"].items():
            split, part = parse(expression, where)
            rows = sources[split]
            first, last = bounds(split, part, len(rows), where)
            taken = rows[first:last] if isinstance(rows, list) else rows.select(range(first, last))
            texts = columns.convert(taken, "text", settings["columns"], split, first, where)
            items = last_words.items(texts)
            if not items:
                raise PrunegridError(
                    f"no passage of the split {name!r} ends in a word that it has before",
                    where=where,
                    expected="running text in paragraphs of 40 words and more",
                    remedy="name a split with longer texts",
                )
            table = pyarrow.Table.from_pylist(items)
            pyarrow.parquet.write_table(table, out / f"{name}.parquet", compression="zstd")
            facts = {"from": split + part, "texts": len(texts), "rows": len(items)}
            listed[name] = facts | {"columns": table.column_names}
            log.info("%s: %s: %d passages", where, name, len(items))
    return {"source": record, "splits": listed}
