"""Settings of a model's config by their paths, and configs in which some are changed.

A path is the keys from the outermost config to the setting: ("text_config", "layer_types"). Only
what a config stores has a path. What it derives (properties) follows from that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Usual names of the MLP's width, the likeliest first.
MLP_WIDTH = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "d_ff")

Path = tuple[str, ...]


def settings_of(config: Any, *, _outer: Path = ()) -> dict[Path, Any]:
    """Return path → value of all settings that a config stores, those of configs inside it too."""
    settings: dict[Path, Any] = {}
    for key, value in config.to_dict().items():
        inner = vars(config).get(key)
        if hasattr(inner, "to_dict") and hasattr(inner, "attribute_map"):
            settings |= settings_of(inner, _outer=(*_outer, key))
        else:
            settings[*_outer, key] = value
    return settings


def path_of(config: Any, name: str) -> Path:
    """Return the path of a setting by transformers' own name for it, outermost first.

    It is the name itself, translated by the config's `attribute_map`, where nothing is stored.
    """
    own = getattr(config, "attribute_map", {}).get(name, name)
    found = [path for path in settings_of(config) if path[-1] in (name, own)]
    return min(found, key=len, default=(own,))


def setting(config: Any, name: str) -> Any:
    """Return a setting by transformers' own name for it; None where the config stores none."""
    return settings_of(config).get(path_of(config, name))


def with_changes(config: Any, changes: Mapping[Path, Any]) -> Any:
    """Return a new config with other values at some paths.

    Raises:
        Exception: of any class: each architecture checks its config in its own way.
    """
    values = config.to_dict()
    for path, value in changes.items():
        inner = values
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    return type(config).from_dict(values)
