"""Chat templates, which may read the turns and the tokenizer's special tokens, and nothing else.

A template of transformers can also read the clock (`strftime_now`) and draw (Jinja's filter
`random`, `lipsum()`). Then equal settings would ask other prompts on another day. So the clock
stands still on a date, and a template that draws is refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from prunegrid.common.errors import PrunegridError, explained

# The date of a data set that sets no `chat_date`: what Llama 3.2's template writes where it is
# given no clock.
USUAL_DATE = "2024-07-26"


def fill(tokenizer: Any, text: str, date: str | None, where: str) -> str:
    """Return a text as one user turn in a tokenizer's chat template, up to the model's answer.

    Args:
        date: what the template is told that today is, YYYY-MM-DD; None is USUAL_DATE.
        where: label for errors.

    Raises:
        PrunegridError: the tokenizer has no such template, or the template refuses the turn, or
            draws.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise PrunegridError(
            "the prompt asks for chat, but the tokenizer has no chat template",
            where=where,
            remedy="set chat: false for this model",
        )
    unfit = PrunegridError(
        "the tokenizer's chat template cannot be filled with one user turn",
        where=where,
        remedy="set chat: false for this model",
    )
    from jinja2 import TemplateError  # which prompts without chat do without

    with explained(unfit, (TemplateError, LookupError, TypeError, ValueError)):
        _confine(tokenizer.get_chat_template(), datetime.fromisoformat(date or USUAL_DATE))
        turns = [{"role": "user", "content": text}]
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def _confine(template: str, today: datetime) -> None:
    """Stop the clock of a template, and keep it from drawing.

    transformers compiles each template once, with functions of its own, and lets no argument take
    their place.
    """
    from transformers.utils import chat_template_utils

    language = chat_template_utils._compile_jinja_template(template).environment
    language.globals |= {"strftime_now": today.strftime, "lipsum": _refuse}
    language.filters["random"] = _refuse


def _refuse(*_: Any, **__: Any) -> None:
    raise ValueError("it draws at random, so that no two runs have the same prompts")
