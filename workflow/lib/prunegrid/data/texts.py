"""Texts of a `data` artifact: one column of one split, in the order of its file."""

from __future__ import annotations

from pathlib import Path

from prunegrid.common.errors import PrunegridError, nearest

# What stands between documents that are read as one text, as in the papers' drivers.
SEPARATOR = "\n\n"


def read_texts(data: Path, split: str, column: str, where: str) -> list[str]:
    """Return the texts of a column of `<split>.parquet`.

    Args:
        data: the artifact.
        split: its name.
        column: "text", "document" or another of its columns.
        where: label for errors.

    Raises:
        PrunegridError: the split or the column is missing, or it holds no text.
    """
    # Imported where a file is read: what needs other functions of this module does without it.
    import pyarrow.parquet as pq

    path = Path(data) / f"{split}.parquet"
    if not path.exists():
        raise PrunegridError(
            f"the data set has no split '{split}'",
            where=where,
            remedy=nearest(split, (p.stem for p in Path(data).glob("*.parquet"))),
        )
    columns = pq.read_schema(path).names
    if column not in columns:
        raise PrunegridError(
            f"the split '{split}' has no column '{column}'",
            where=where,
            remedy=nearest(column, columns),
        )
    # `read_table` would import pyarrow's datasets and pandas, which nothing here needs.
    with pq.ParquetFile(path) as file:
        texts = file.read(columns=[column])[column].to_pylist()
    if not any(text.strip() for text in texts):
        raise PrunegridError(
            f"the column '{column}' of split '{split}' holds no text",
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
