"""Rows and texts of a `data` artifact, in the order of its files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prunegrid.common.errors import PrunegridError, nearest

# The separator of documents that are read as one text, as in the papers' drivers.
SEPARATOR = "\n\n"


def read_columns(
    data: Path, split: str, names: Sequence[str] | None, limit: int | None, where: str
) -> list[dict]:
    """Return columns of the first `limit` rows (None: all) of the artifact's `<split>.parquet`.

    Args:
        names: of the columns; None reads all.
        where: label for errors.

    Raises:
        PrunegridError: the split is missing or empty, or lacks a column.
    """
    # Imported where a file is read: training on rows that are given to it does without pyarrow.
    import pyarrow.parquet as pq

    path = Path(data) / f"{split}.parquet"
    if not path.exists():
        known = nearest(split, (p.stem for p in Path(data).glob("*.parquet")))
        raise PrunegridError(f"the data set has no split {split!r}", where=where, remedy=known)
    # `read_table` would import pyarrow's datasets and pandas, which nothing here needs.
    with pq.ParquetFile(path) as file:
        columns = file.schema_arrow.names
        for name in names or ():
            if name not in columns:
                raise PrunegridError(
                    f"the split {split!r} has no column {name!r}",
                    where=where,
                    remedy=f"{nearest(name, columns)}; summaries need a data set of that kind",
                )
        rows = file.read(columns=names).to_pylist()[:limit]
    if not rows:
        raise PrunegridError(f"the split {split!r} has no rows", where=where)
    return rows


def read_rows(data: Path, split: str, limit: int | None, where: str) -> list[dict]:
    """Return the first `limit` rows {id, document, summary} of a split; see `read_columns`."""
    return read_columns(data, split, ["id", "document", "summary"], limit, where)


def read_texts(data: Path, split: str, column: str, where: str) -> list[str]:
    """Return the texts of one column of a split; see `read_columns`.

    Raises:
        PrunegridError: also if all of them are blank.
    """
    texts = [row[column] for row in read_columns(data, split, [column], None, where)]
    if not any(text.strip() for text in texts):
        raise PrunegridError(
            f"the column {column!r} of split {split!r} holds no text",
            where=where,
            remedy="use a data set with documents",
        )
    return texts


def require_length(length: int, positions: int | None, what: str, where: str) -> None:
    """Check that windows of `length` tokens fit the model's positions (None: no limit).

    Raises:
        PrunegridError: they do not.
    """
    if positions is not None and length > positions:
        raise PrunegridError(
            f"{what} is {length}",
            where=where,
            expected=f"at most the model's {positions} positions",
            remedy=f"set {what} to {positions} or less",
        )
