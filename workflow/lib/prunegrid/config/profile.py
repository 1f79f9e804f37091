"""The base of every profile, which pydantic checks, and types of its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

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
_Names = Literal["auto", "bfloat16", "float32"]
Precision = Annotated[_Names, BeforeValidator(_precision, json_schema_input_type=_Names | bool)]


# The context of a validation that takes what is right key by key.
WITH_CONFLICTS = "with conflicts"


class Conflicts(ValueError):
    """All that is wrong with a profile whose keys are right one by one; a sentence each."""

    def __init__(self, sentences: list[str]) -> None:
        self.sentences = sentences
        super().__init__("; ".join(sentences))


class Profile(BaseModel):
    """Base: unknown keys are errors, values are not coerced, instances do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def conflicts(self) -> Iterator[str]:
        """Yield what does not fit together; each sentence names the keys that it is about."""
        yield from ()

    @model_validator(mode="after")
    def _fits_together(self, info: ValidationInfo) -> Self:
        if info.context != WITH_CONFLICTS and (sentences := list(self.conflicts())):
            raise Conflicts(sentences)
        return self


def message(item: Mapping[str, Any]) -> str:
    """Return the text of one of pydantic's error dicts, with what was probably meant."""
    text = item["msg"].removeprefix("Value error, ")
    if item["type"] == "too_long":
        text = f"expected at most {item['ctx']['max_length']}"
    meant = _meant(item["type"], item.get("ctx", {}), item.get("input"))
    return f"{text}; did you mean {meant}?" if meant else text


def _meant(kind: str, bounds: Mapping[str, Any], value: Any) -> str:
    """Return the value that was probably meant: a percentage as a share, a number in quotes."""
    if isinstance(value, str) and kind in ("float_type", "int_type"):
        number = value.strip()
        share = number.endswith("%")
        try:
            found = float(number.rstrip("%")) / (100 if share else 1)
        except ValueError:
            return ""
        return f"{found:g}" if share else f"{number}, without quotes"
    is_share = bounds.get("le", bounds.get("lt")) == 1
    if kind in ("less_than", "less_than_equal") and is_share and 1 < value <= 100:
        return f"{value / 100:g}"
    return ""
