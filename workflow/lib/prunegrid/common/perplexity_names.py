"""Names of perplexities, by their protocol; without torch."""

from __future__ import annotations

# The length of the papers' windows, which a name need not say.
USUAL_WINDOW = 2048


def metric_name(protocol: str, window: int, stride: int | None, special_tokens: bool) -> str:
    """Return the name of a perplexity: its protocol, and its window if that is not the usual one.

    "ppl_2048_nonoverlap", "ppl_512_nonoverlap", "ppl_stride512", "ppl_512_stride256", and with
    the tokenizer's special tokens before the text "ppl_2048_nonoverlap_special" and so on;
    "word_perplexity", "word_perplexity_512".
    """
    if protocol == "words":
        return "word_perplexity" + ("" if window == USUAL_WINDOW else f"_{window}")
    special = "_special" if special_tokens else ""
    if protocol == "nonoverlap":
        return f"ppl_{window}_nonoverlap{special}"
    usual = "" if window == USUAL_WINDOW else f"_{window}"
    return f"ppl{usual}_stride{stride}{special}"
