"""The profile of a pruning step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ConfigDict, field_validator

from prunegrid.common.nm_pattern import parse_nm
from prunegrid.config.profile import Fraction, Positive, Profile

# Keys of a pruning step that only pattern structured has, and keys that it lacks.
OF_STRUCTURED = frozenset(("units", "multiple"))
NOT_STRUCTURED = frozenset(
    (
        *("scope", "propagation", "allocation", "allocation_settings", "include", "exclude"),
        *("biases", "allow_unprunable", "refine", "refine_settings"),
    )
)
# Units that may be removed together.
_UNITS = ({"mlp"}, {"heads"}, {"heads", "mlp"}, {"blocks"}, {"experts"})
_UNITS_SAID = "[mlp], [heads], [heads, mlp], [blocks] or [experts]"


class Prune(Profile):
    """A pruning step; keys beyond these are settings of its method."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    method: str
    pattern: str = "unstructured"
    sparsity: Fraction | None = None
    scope: Literal["row", "layer", "model"] | None = None
    calibration: str | None = None
    propagation: Literal["sequential", "single-pass", "dense"] = "sequential"
    refine: str | None = None
    refine_settings: dict[str, Any] = {}
    update: str | None = None
    update_settings: dict[str, Any] = {}
    allocation: str = "uniform"
    allocation_settings: dict[str, Any] = {}
    include: list[str] = []
    exclude: list[str] = []
    biases: bool = False
    allow_unprunable: bool = False
    units: list[Literal["mlp", "heads", "blocks", "experts"]] | None = None
    multiple: Positive | None = None

    @field_validator("pattern", mode="before")
    @classmethod
    def _quoted(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            text = f"{value // 60}:{value % 60}"
            raise ValueError(f'YAML reads {text} as the number {value}: quote it, "{text}"')
        return value

    @field_validator("sparsity", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        if isinstance(value, dict | list):
            text = "prune: {method: [wanda], sparsity: {from: 0.3, to: 0.8, step: 0.1}}"
            raise ValueError(f"a profile has one sparsity; lists and ranges go into a grid: {text}")
        return value

    @field_validator("refine", mode="before")
    @classmethod
    def _none_is_nothing(cls, value: Any) -> Any:
        return None if value == "none" else value

    def conflicts(self) -> Iterator[str]:
        """Yield what does not fit its method and its pattern."""
        if self.method == "dense":
            extra = self.model_fields_set - {"method"} | set(self.model_extra or {})
            if extra:
                yield f"`method` dense prunes nothing; remove {sorted(extra)}"
            return
        for part in ("refine", "update"):
            if getattr(self, part) is None and getattr(self, f"{part}_settings"):
                yield f"`{part}_settings` belong to `{part}`; name one or remove them"
        if self.pattern == "structured":
            yield from _misfits_of_structured(self)
            return
        nm = parse_nm(self.pattern)
        if self.pattern != "unstructured" and nm is None:
            yield (
                f'`pattern` is "{self.pattern}"; expected "unstructured", "structured" or "N:M", '
                'as in "2:4"'
            )
            return
        structured = OF_STRUCTURED & self.model_fields_set
        if structured:
            yield f"{sorted(structured)} are of `pattern`: structured; remove them"
        yield from _misfits_of_nm(self, nm) if nm else _misfits_of_unstructured(self)


def _misfits_of_unstructured(profile: Prune) -> Iterator[str]:
    if profile.refine is not None and profile.sparsity in (0, 1):
        yield f"`sparsity` {profile.sparsity:g} leaves nothing to `refine`; remove it"
    if profile.sparsity is None:
        yield "an unstructured `pattern` needs `sparsity` (0 ≤ sparsity ≤ 1)"
    if profile.scope == "model" and profile.allocation != "uniform":
        yield "`scope` model ranks all linears together; remove `allocation`"
    if profile.include and profile.allocation != "uniform":
        yield "`allocation` knows linears of blocks only; remove `include`"


def _misfits_of_nm(profile: Prune, nm: tuple[int, int]) -> Iterator[str]:
    pattern = f"`pattern` {profile.pattern}"
    if not 0 < nm[0] < nm[1]:
        yield (
            f'`pattern` is "{profile.pattern}"; N:M keeps N of every M, so 0 < N < M, as in "2:4"'
        )
    if profile.biases:
        yield f"{pattern} is of weights; remove `biases`"
    if profile.sparsity is not None:
        yield f"{pattern} sets the sparsity itself; remove `sparsity`"
    for key in ("scope", "allocation"):
        if key in profile.model_fields_set:
            yield f"{pattern} has no {key}; remove `{key}`"


def _misfits_of_structured(profile: Prune) -> Iterator[str]:
    units = profile.units or []
    if not units:
        yield f"pattern structured needs `units`: {_UNITS_SAID}"
    elif set(units) not in _UNITS or len(set(units)) < len(units):
        yield f"units is {units}; expected {_UNITS_SAID}"
    if profile.sparsity is None or not 0 < profile.sparsity < 1:
        yield "pattern structured needs `sparsity` (0 < sparsity < 1)"
    idle = NOT_STRUCTURED & profile.model_fields_set
    if idle:
        yield f"pattern structured does not use {sorted(idle)}; remove them"
    if profile.update not in (None, "none", "least_squares"):
        yield f"update is '{profile.update}'; units know none and least_squares"
    if profile.update == "least_squares" and units in (["blocks"], ["experts"]):
        yield f"{units[0]} leave nothing to correct; remove `update`"
    others = set(profile.update_settings) - {"dampening"}
    if others:
        yield f"the correction is in closed form and has no {sorted(others)}; remove them"
    if "multiple" in profile.model_fields_set and "mlp" not in units:
        yield "`multiple` is of kept neurons; remove it, or add mlp to `units`"
