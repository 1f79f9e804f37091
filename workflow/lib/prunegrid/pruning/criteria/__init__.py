"""Criteria: one linear pruned by a method, and the lookup of methods.

A method is one module of this package, found by its name, so that adding one edits no other file:

    NEEDS     "nothing" | "input_norms" | "input_moments" (means and variances too) | "hessian" (and
              norms): what it must know of a linear's input
    SETTINGS  its own config settings with their defaults
    OPERATIONS  of what needs a Hessian, operations a parameter, for estimates of time (4000.0)
    SCOPE     "row" | "layer": what an unstructured pattern compares by default
    SCOPES    the scopes that it knows, ("row", "layer") where it says nothing; with "model" it has
              scores(weight) -> float32 [d_out, d_in] that compare over linears
    DRAWS     True where it draws random numbers
    UPDATES   True where it changes the weights that stay
    prune_linear(weight, stats, pattern, **settings) -> (weight, facts)
    bias_shift(removed, stats, **settings) -> [d_out] | None
              if there is one: what a linear's bias gains, `removed` the weight before minus the
              weight after; linears without a bias get one if its setting `add_biases` is true

All but the functions are literals, so they can be read without importing torch. `weight` is
[d_out, d_in]; `stats` an InputStats or None; settings are all of SETTINGS, and `generator` where
DRAWS; the result has the weight's shape and dtype; `facts` is what is recorded of the linear
beside its counts (JSON-able).
"""

from __future__ import annotations

import hashlib
import importlib
from types import ModuleType
from typing import Any

from torch import Generator

from prunegrid.common.errors import PrunegridError, nearest
from prunegrid.common.plugins import method_facts


def method_module(name: str) -> ModuleType:
    """Return the module of a pruning method.

    Raises:
        PrunegridError: there is none of that name.
    """
    method_facts(name)
    return importlib.import_module(f"prunegrid.pruning.criteria.{name}")


def method_settings(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return a method's settings: its defaults, overlaid with those that are given.

    Raises:
        PrunegridError: a setting that the method does not have.
    """
    defaults = method_module(name).SETTINGS
    for key in given:
        if key not in defaults:
            raise PrunegridError(
                f"method {name} has no setting '{key}'", remedy=nearest(key, defaults)
            )
    return {**defaults, **given}


def generator_of(seed: int, name: str) -> Generator:
    """Return the generator of one linear, on the CPU: the order of the linears plays no part."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:7], "big"))
