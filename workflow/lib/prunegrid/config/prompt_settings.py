"""How the documents of a data set become prompts, as steps read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prunegrid.config.validated import Config


def prompt_of(config: Config, dataset: str) -> dict[str, Any]:
    """Return how a data set's documents become prompts; those of a mixture are whole ones."""
    profile = config.profile("datasets", dataset)
    return {
        "template": profile.prompt if profile.mixture is None else "{document}",
        "chat": profile.chat,
        "end": profile.end,
        "max_words": profile.max_words,
        "max_tokens": profile.max_tokens,
    }


def template_of(config: Config, dataset: str) -> dict[str, Any]:
    """Return what is read of a prompt where no causal model is asked."""
    prompt = prompt_of(config, dataset)
    return {key: prompt[key] for key in ("template", "max_words")}


def seed_of(config: Config, seed: int | None) -> int:
    """Return the seed of a cell: its own, or the config's."""
    return config.seed if seed is None else seed
