"""How many rows a mixture takes of each part, and what a row becomes: prompt and response.

Templates are Jinja's, the language of the harness' tasks, in its sandbox: `{{goal}}`,
`{{[sol1, sol2][label]}}`; a name that a row lacks is an error. `{{text | words(300)}}` is the text
up to its word number 300.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from prunegrid.common.errors import PrunegridError
from prunegrid.data.prompts import cut_words


def counts(
    available: Mapping[str, int],
    weights: Mapping[str, float | None],
    rows: int | None,
    where: str,
) -> dict[str, int]:
    """Return how many rows each part gives.

    With weights, each part has its exact share (by largest remainder) of `rows`, or of as many as
    the scarcest part allows; no row is repeated. Without, parts are mixed by their (capped) sizes,
    as examples-proportional mixing does (Raffel et al. 2020, section 3.5.2).

    Args:
        available: rows of each part, after its max_rows.
        weights: of each part; all of them, or none.
        rows: of the mixture; None takes what there is.

    Raises:
        PrunegridError: a part has fewer rows than its share.
    """
    weighted = all(weight is not None for weight in weights.values())
    total = math.fsum(weights.values()) if weighted else sum(available.values())
    share = {n: (weights[n] if weighted else available[n]) / total for n in available}
    if rows is None:
        rows = min(math.floor(available[n] / share[n] + 1e-9) for n in available if share[n])
    wanted = {name: math.floor(rows * share[name] + 1e-9) for name in available}
    by_rest = sorted(available, key=lambda n: wanted[n] - rows * share[n])
    for name in by_rest[: rows - sum(wanted.values())]:
        wanted[name] += 1
    short = {n: (wanted[n], available[n]) for n in available if wanted[n] > available[n]}
    if short:
        listing = ", ".join(f"{n} {has} of {asked}" for n, (asked, has) in short.items())
        raise PrunegridError(
            f"parts have fewer rows than their share of {rows}: {listing}",
            where=where,
            remedy="lower the mixture's rows or the part's weight, or raise its max_rows",
        )
    return wanted


class Writer:
    """Makes prompts and responses of one part's rows.

    Args:
        part: its name, for errors.
        prompt, response: templates.
        where: label for errors.

    Raises:
        PrunegridError: a template is malformed.
    """

    def __init__(self, part: str, prompt: str, response: str, where: str) -> None:
        self.part, self.where = part, where
        language = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        language.filters["words"] = cut_words
        try:
            self.prompt = language.from_string(prompt)
            self.response = language.from_string(response)
        except TemplateError as error:
            raise self._error("a template is malformed", error) from error

    def write(self, row: Mapping[str, Any], label: str) -> dict[str, str]:
        """Return {document, summary} of a row.

        Raises:
            PrunegridError: the row does not fill a template, or one comes out empty.
        """
        made = {}
        for name, template in (("document", self.prompt), ("summary", self.response)):
            try:
                made[name] = template.render(row)
            except (TemplateError, TypeError, ValueError, LookupError) as error:
                raise self._error(f"row {label} does not fill a template", error) from error
            if not made[name].strip():
                raise PrunegridError(
                    f"of row {label} a template makes an empty text", where=self._place
                )
        return made

    @property
    def _place(self) -> str:
        return f"{self.where}, part {self.part}"

    def _error(self, what: str, error: Exception) -> PrunegridError:
        return PrunegridError(
            f"{what} ({error})",
            where=self._place,
            expected="Jinja over the row's columns, such as {{question}}",
        )
