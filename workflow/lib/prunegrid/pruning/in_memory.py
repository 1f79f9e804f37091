"""Pruning of one transformers model in memory, by the code of the pipeline's steps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from prunegrid.common import plugins
from prunegrid.common.determinism import derived_seed
from prunegrid.common.errors import PrunegridError
from prunegrid.common.precision import AUTO, resolve
from prunegrid.models.forward import device_of, max_positions
from prunegrid.models.loading import compute_in
from prunegrid.models.prunable import Extent
from prunegrid.pruning.calibration_windows import draw_windows
from prunegrid.pruning.dense_statistics import dense_norm_stats
from prunegrid.pruning.layerwise import prune_model
from prunegrid.pruning.recipe import Recipe

WHERE = "prunegrid.prune"
# Keys of a `prune` profile that are not the method's own.
OF_RECIPE = (
    *("scope", "allow_unprunable"),
    *(key for part in plugins.PARTS for key in (part, f"{part}_settings")),
)
OF_EXTENT = ("include", "exclude", "biases")


def prune(
    model: nn.Module,
    tokenizer: Any = None,
    texts: Iterable[str] = (),
    method: str = "wanda",
    pattern: str = "2:4",
    *,
    sparsity: float | None = None,
    samples: int = 128,
    length: int | None = None,
    join: bool = True,
    seed: int = 0,
    propagation: str = "sequential",
    compute_dtype: str = AUTO,
    **settings: Any,
) -> dict[str, dict[str, Any]]:
    """Prune a model in place; return the report: full linear name → {shape, zeros, sparsity, …}.

    The weights are those of a study's step with the same settings, torch's threads and device; the
    report is the step's `prune.json`.

    Args:
        model: of transformers, with floats in float32 or bfloat16.
        tokenizer, texts: of the calibration; methods that need no inputs do without.
        method: of the library (`prunegrid list methods`), or the path of a file of yours.
        pattern: "N:M", or "unstructured" with a `sparsity` from 0 to 1.
        samples, length: calibration windows, and tokens of each; None for 2048, or the model's
            positions if they are fewer.
        join: draw windows from all texts as one; if not, from single long ones.
        seed: of the windows, and of methods that draw.
        compute_dtype: "float32", "bfloat16" or "auto": of products of a bfloat16 model.
        settings: other keys of a `prune` profile (`scope`, `update`, `exclude`, …), and those of
            the method.

    Raises:
        PrunegridError: whole units are asked for, the texts are missing or too short, the model is
            not understood, or a setting does not fit.
    """
    recipe = _recipe(method, pattern, sparsity, seed, settings)
    with _computing_in(model, resolve(compute_dtype, device_of(model).type)):
        tokens = norms = reached = None
        if recipe.reads_inputs:
            tokens = _windows(model, tokenizer, list(texts), samples, length, join, seed)
            stats = dense_norm_stats(model, tokens)
            norms = {name: inputs.input_norms for name, inputs in stats.items()}
            reached = {n: s.tokens for n, s in stats.items() if s.tokens < tokens.numel()}
        known = {"tokens": tokens, "norms": norms, "reached": reached}
        return prune_model(model, recipe, **known, propagation=propagation)


@contextlib.contextmanager
def _computing_in(model: nn.Module, dtype: str) -> Iterator[None]:
    """Widen a model's floats to a dtype inside the context."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    stored = {name: tensor.dtype for name, tensor in tensors}
    compute_in(model, dtype)
    try:
        yield
    finally:
        for name, tensor in tensors:
            tensor.data = tensor.data.to(stored[name])


def _recipe(
    method: str, pattern: str, sparsity: float | None, seed: int, settings: dict[str, Any]
) -> Recipe:
    """Return the recipe of a profile's keys; those that it does not know are the method's own."""
    if pattern == "structured":
        raise PrunegridError(
            "pattern structured makes another model", where=WHERE, remedy="use a study for it"
        )
    if plugins.is_own(method):
        plugins.load({"pruning method": [str(Path(method).expanduser().resolve())]})
        method = Path(method).name
    known = {key: settings.pop(key) for key in OF_RECIPE if key in settings}
    extent = Extent.of({key: settings.pop(key) for key in OF_EXTENT if key in settings})
    facts = {"settings": settings, "seed": derived_seed(seed, "prune"), "extent": extent}
    return Recipe(method, pattern, sparsity, **known, **facts)


def _windows(
    model: nn.Module,
    tokenizer: Any,
    texts: list[str],
    samples: int,
    length: int | None,
    join: bool,
    seed: int,
) -> Tensor:
    """Return calibration windows as the pipeline's step draws them, int64 [samples, length]."""
    if tokenizer is None or not any(text.strip() for text in texts):
        raise PrunegridError(
            "the method needs calibration texts, and a tokenizer for them",
            where=WHERE,
            remedy="prune(model, tokenizer, texts, …), or a method that needs none: magnitude",
        )
    positions = max_positions(model)
    if length is None:
        length = min(2048, positions or 2048)
    elif positions is not None and length > positions:
        what = f"length is {length}, and the model has {positions} positions"
        raise PrunegridError(what, where=WHERE, remedy=f"lower it to {positions}")
    encode = lambda text: tokenizer(text, verbose=False)["input_ids"]  # noqa: E731
    draw = derived_seed(seed, "calibration")
    return draw_windows(texts, encode, samples, length, draw, WHERE, join=join)
