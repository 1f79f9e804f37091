"""What is known of a study beforehand: values that its cells must have, rows of others."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from prunegrid.config.profile import Profile


class Expected(Profile):
    """A value that a study's cells are known to have; the table fails where they do not."""

    cells: dict[str, Any]
    column: str
    value: float
    within: Annotated[float, Field(gt=0)]
    source: str


class Published(Profile):
    """Rows that others have published: shown below the table, marked as unattested."""

    source: str
    rows: Annotated[list[dict[str, float | str | None]], Field(min_length=1)]

    @field_validator("rows")
    @classmethod
    def _named(cls, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in rows:
            if not isinstance(row.get("name"), str) or len(row) < 2:
                raise ValueError(f"holds {row}; expected a `name` and values by metric")
        return rows
