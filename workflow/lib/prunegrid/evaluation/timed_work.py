"""The work of one model in one turn of a timing: a prompt and greedy decoding, or one whole pass.

The tokens are drawn once, the same in every job, and an EOS ends nothing, so a turn is the same
amount of work whatever the weights write. A model is on `device` and in eval mode; `settings` are
prompt_tokens, new_tokens and batch_size.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prunegrid.common.device_meters import synchronize
from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.speed import Work
from prunegrid.models import caches, forward


def generation(model: nn.Module, settings: Mapping, device: str, where: str) -> Work:
    """Return the work of a causal model: one forward pass over prompts, then decoding.

    Raises:
        PrunegridError: the model has too few positions.
    """
    batch, length, new = (settings[k] for k in ("batch_size", "prompt_tokens", "new_tokens"))
    _require_positions(model, length + new, "prompt_tokens + new_tokens", where)
    ids = _draw(model, batch, length, device)
    caches.are_right(model, batch)  # so that it is known before a clock runs

    def run() -> dict[str, float]:
        prefill, decode = once(model, ids, new, device)
        return {"prefill": prefill, "decode": decode}

    return Work(run, {"prefill": batch * length, "decode": batch * (new - 1)})


def once(model: nn.Module, ids: Tensor, new_tokens: int, device: str) -> tuple[float, float]:
    """Return the wall seconds of prefill and of decoding for prompts [batch, prompt_tokens].

    The first new token comes out of prefill; decoding writes the `new_tokens` − 1 others. A model
    without a cache that can be used reads all tokens again for each new one.
    """
    cached, options = caches.are_right(model, len(ids)), caches.options(model)
    if "logits_to_keep" in forward.forward_parameters(model):
        options["logits_to_keep"] = 1
    with torch.no_grad():  # as `generate` does: packed linears of one input are joined under it
        synchronize(device)
        began = time.perf_counter()
        out = model(input_ids=ids, **options)
        token = out.logits[:, -1:].argmax(-1)
        synchronize(device)
        filled = time.perf_counter()
        for _ in range(new_tokens - 1):
            state = caches.kept(model, out) if cached else {}
            ids = token if state else torch.cat([ids, token], dim=1)
            out = model(input_ids=ids, **state, **options)
            token = out.logits[:, -1:].argmax(-1)
        synchronize(device)
    return filled - began, time.perf_counter() - filled


def whole_pass(model: nn.Module, settings: Mapping, device: str, where: str) -> Work:
    """Return the work of a model of any architecture: one forward pass without a cache.

    Of an encoder-decoder `new_tokens` go through the decoder as well.

    Raises:
        PrunegridError: the model has too few positions.
    """
    length, new = settings["prompt_tokens"], settings["new_tokens"]
    _require_positions(model, max(length, new), "prompt_tokens or new_tokens", where)
    ids = _draw(model, settings["batch_size"], length, device)
    inputs, tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids.numel()
    if forward.is_encoder_decoder(forward.inner(model)):
        inputs["decoder_input_ids"] = _draw(model, settings["batch_size"], new, device)
        tokens += inputs["decoder_input_ids"].numel()
    options = {"use_cache": False} if "use_cache" in forward.forward_parameters(model) else {}

    def run() -> dict[str, float]:
        with torch.no_grad():
            synchronize(device)
            began = time.perf_counter()
            model(**inputs, **options)
            synchronize(device)
            return {"prefill": time.perf_counter() - began}

    return Work(run, {"prefill": tokens})


def _draw(model: nn.Module, rows: int, tokens: int, device: str) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    vocabulary = forward.embedding_rows(model)
    return torch.randint(vocabulary, (rows, tokens), generator=generator).to(device)


def _require_positions(model: nn.Module, needed: int, what: str, where: str) -> None:
    limit = forward.max_positions(model)
    if limit is not None and needed > limit:
        raise PrunegridError(
            f"{what} is {needed}", where=where, expected=f"at most the model's {limit} positions"
        )


WORKS = {"efficiency": generation, "passes": whole_pass}
