"""Published conclusions in the config: their sentences, their scopes, and their tests.

`prunegrid claims` tests them on finished tables (`prunegrid.tables.claims`). No run uses them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from prunegrid.config.profile import Profile, Rate


def _listed(value: Any) -> list:
    """Return one value, or a list of several, as a list; refuse an empty or nested one."""
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(one, (list, dict)) for one in values):
        raise ValueError("expected a value, or a list of values")
    return values


Names = Annotated[list[str], BeforeValidator(_listed, json_schema_input_type=str | list[str])]
# {column of the table: the values that it may have}.
Columns = dict[str, Annotated[list[Any], BeforeValidator(_listed, json_schema_input_type=Any)]]
Margin = Annotated[float, Field(ge=0)]
Factor = Annotated[float, Field(ge=1)]


class Scope(Profile):
    """The scope that a conclusion was drawn on: names, or patterns of them such as `ppl_*`."""

    study: Names = ["*"]
    model: Names
    dataset: Names = ["*"]
    split: Names = ["*"]
    metric: Names


class Conclusion(Profile):
    """The keys of conclusions of every kind: the sentence, its scope, and the two sides."""

    says: str
    source: str
    scope: Scope
    a: Columns = {}
    b: Columns = {}
    match: list[str] = []
    plain: bool = True
    quantifier: Literal["all", "some"] = "all"


class Scores(Conclusion):
    """Side a is better than b by more than `margin`, or of a perplexity by more than `factor`.

    Or the two are equivalent: they differ by less than that. `with_more` of a metric, a must also
    have more of it.
    """

    kind: Literal["better", "equivalent"]
    margin: Margin = 0.0
    factor: Factor = 1.0
    with_more: str | None = None


class Measure(Conclusion):
    """A counted or timed column: a's over b's is `at_most` or `at_least` so much."""

    kind: Literal["measure"]
    at_most: Rate | None = None
    at_least: Rate | None = None
    tolerance: Margin

    @model_validator(mode="after")
    def _one_bound(self) -> Measure:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("give `at_most` or `at_least`")
        if len(self.scope.metric) != 1:
            raise ValueError("name one column of the table as the metric of its scope")
        return self


class Sensitivity(Conclusion):
    """Two losses of a against b differ: the smaller model's is larger, or those of two tasks."""

    kind: Literal["sensitivity"]
    across: Literal["model", "task"]
    margin: Margin = 0.0


class Chance(Conclusion):
    """Side a scores above chance."""

    kind: Literal["chance"]


AnyKind = Scores | Measure | Sensitivity | Chance
KINDS = {
    kind: one for one in get_args(AnyKind) for kind in get_args(one.model_fields["kind"].annotation)
}
