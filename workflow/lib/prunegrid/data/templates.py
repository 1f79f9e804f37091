"""Jinja templates over the columns of a row, such as `{{question}}`, in Jinja's sandbox.

A name that the row lacks is an error. `{{text | words(300)}}` cuts a text after its word 300.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from prunegrid.common.errors import PrunegridError
from prunegrid.data.prompts import cut_words


class Templates:
    """Templates of the texts that are made of a row.

    Args:
        texts: {name: template, or None for no text}.
        where: label for errors.

    Raises:
        PrunegridError: a template is malformed.
    """

    def __init__(self, texts: Mapping[str, str | None], where: str) -> None:
        self.where = where
        language = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
        language.filters["words"] = cut_words
        try:
            self.templates = {
                name: None if text is None else language.from_string(text)
                for name, text in texts.items()
            }
        except TemplateError as error:
            raise self._error("a template is malformed", error) from error

    def fill(self, row: Mapping[str, Any], label: str) -> dict[str, str | None]:
        """Return {name: text} of the row that errors call `label`.

        Raises:
            PrunegridError: the row does not fill a template, or a text comes out blank.
        """
        try:
            texts = {
                name: None if template is None else template.render(row)
                for name, template in self.templates.items()
            }
        except (TemplateError, TypeError, ValueError, LookupError) as error:
            raise self._error(f"row {label} does not fill a template", error) from error
        for name, text in texts.items():
            if text is not None and not text.strip():
                raise PrunegridError(f"the {name} of row {label} is empty", where=self.where)
        return texts

    def _error(self, what: str, error: Exception) -> PrunegridError:
        return PrunegridError(
            f"{what} ({error})",
            where=self.where,
            expected="Jinja over the row's columns, such as {{question}}",
        )
