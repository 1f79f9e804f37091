"""How many parameters a model has before it is fetched, for estimates; no key depends on it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from prunegrid.common import weight_headers
from prunegrid.config.sources import config_in, model_place

# "135m" of smollm2-135m, "1.3B" of opt-1.3B; not the "2m" of m2m100.
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", re.IGNORECASE)
# Names of a size in the configs of transformers.
_WIDTH = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_INNER = ("intermediate_size", "n_inner", "d_ff", "ffn_dim")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def parameters_of(source: Mapping[str, Any], label: str = "") -> int | None:
    """Return how many parameters a model of a source has, without loading it; None if unknown.

    In this order: the config's `parameters`; the files, if they are on this machine; a size in the
    name (`opt-1.3b`); the widths in the model's own config.

    Args:
        source: as in a node's settings.
        label: a name that may tell a size too.
    """
    if "parameters" in source:
        return source["parameters"]
    if source["kind"] == "random":
        return 0  # a few thousand
    place = model_place(source)
    if place is not None and (count := weight_headers.parameters_of(place)) is not None:
        return count
    named = _by_name((label, *map(str, source.values())))
    return named if named is not None or place is None else by_widths(config_in(place))


def _by_name(texts: Iterable[str]) -> int | None:
    for text in texts:
        if found := _SIZE.search(text):
            return int(float(found[1]) * {"m": 1e6, "b": 1e9}[found[2].lower()])
    return None


def by_widths(config: Mapping[str, Any]) -> int | None:
    """Return about how many parameters a transformer of a config has; None if it lacks a width.

    A layer has four square matrices of attention and three of the feed-forward part, as in Llama;
    models with fewer heads for keys, or with two such matrices, have up to a third less.
    """
    inside = config.get("text_config")
    config = inside if isinstance(inside, Mapping) else config
    width, layers = _first(config, _WIDTH), _first(config, _LAYERS)
    if width is None or layers is None:
        return None
    inner, experts = _first(config, _INNER) or 4 * width, _first(config, _EXPERTS) or 1
    tables = 1 if config.get("tie_word_embeddings", True) else 2
    words = tables * (_first(config, ("vocab_size",)) or 0)
    return width * (layers * (4 * width + 3 * inner * experts) + words)


def _first(config: Mapping[str, Any], names: Iterable[str]) -> int | None:
    values = (config.get(name) for name in names)
    return next((value for value in values if type(value) is int and value > 0), None)
