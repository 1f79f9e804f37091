"""The base of every profile, which pydantic checks, and types of its fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from prunegrid.common.errors import nearest
from prunegrid.common.precision import AUTO, NAMED

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Rate = Annotated[float, Field(gt=0)]


def _precision(value: Any) -> Any:
    """Return a precision by its name; older configs have true for bfloat16, false for float32."""
    if isinstance(value, bool):
        return "bfloat16" if value else "float32"
    if value not in (AUTO, *NAMED):
        raise ValueError(f"{value!r} is no precision; {nearest(str(value), (AUTO, *NAMED))}")
    return value


# The precision of products; the device settles auto (`prunegrid.common.precision`).
Precision = Annotated[Literal["auto", "bfloat16", "float32"], BeforeValidator(_precision)]


class Profile(BaseModel):
    """Base: unknown keys are errors, values are not coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def message(item: Mapping[str, Any]) -> str:
    """Return the text of one of pydantic's error dicts."""
    return item["msg"].removeprefix("Value error, ")
