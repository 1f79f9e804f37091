"""Rows of a `data` artifact: documents and their summaries, in the order of its file."""

from __future__ import annotations

from pathlib import Path

from prunegrid.common.errors import PrunegridError, nearest


def read_rows(data: Path, split: str, limit: int | None, where: str) -> list[dict]:
    """Return the first `limit` rows {id, document, summary} of a split.

    Args:
        data: the artifact; it holds `<split>.parquet`.
        split: its name.
        limit: None takes all rows.
        where: label for errors.

    Raises:
        PrunegridError: the split is missing or empty, or holds no summaries.
    """
    # Imported where a file is read: training on rows that are given to it does without pyarrow.
    import pyarrow.parquet as pq

    path = Path(data) / f"{split}.parquet"
    if not path.exists():
        raise PrunegridError(
            f"the data set has no split {split!r}",
            where=where,
            remedy=nearest(split, (p.stem for p in Path(data).glob("*.parquet"))),
        )
    names = ["id", "document", "summary"]
    missing = sorted(set(names) - set(pq.read_schema(path).names))
    if missing:
        raise PrunegridError(
            f"the split {split!r} has no column {', '.join(missing)}",
            where=where,
            expected="documents with summaries",
            remedy="use a data set of kind summaries here",
        )
    # `read_table` would import pyarrow's datasets and pandas, which nothing here needs.
    with pq.ParquetFile(path) as file:
        rows = file.read(columns=names).to_pylist()
    rows = rows if limit is None else rows[:limit]
    if not rows:
        raise PrunegridError(f"the split {split!r} has no rows", where=where)
    return rows
