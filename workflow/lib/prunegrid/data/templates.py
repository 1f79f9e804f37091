"""Jinja templates over the columns of a row, such as `{{question}}`, in Jinja's sandbox.

A name that the row lacks is an error. `{{text | words(300)}}` cuts a text after its word 300.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from prunegrid.common.errors import PrunegridError, explained
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
        with explained(self._error("a template is malformed"), TemplateError):
            self.templates = {
                name: None if text is None else language.from_string(text)
                for name, text in texts.items()
            }

    def fill(self, row: Mapping[str, Any], label: str) -> dict[str, str | None]:
        """Return {name: text} of the row that errors call `label`.

        Raises:
            PrunegridError: the row does not fill a template, or a text comes out blank.
        """
        misfit = self._error(f"row {label} does not fill a template")
        with explained(misfit, (TemplateError, TypeError, ValueError, LookupError)):
            texts = {
                name: None if template is None else template.render(row)
                for name, template in self.templates.items()
            }
        for name, text in texts.items():
            if text is not None and not text.strip():
                raise PrunegridError(f"the {name} of row {label} is empty", where=self.where)
        return texts

    def _error(self, what: str) -> PrunegridError:
        expected = "Jinja over the row's columns, such as {{question}}"
        return PrunegridError(what, where=self.where, expected=expected)
