"""Batched generation: prompts of like length together, each prediction stopped at EOS.

Pads are computed for nothing. Those of prompts are at most PADS of all positions of prompts: a
batch whose rows differ too much is cut. In a decoder's greedy search a row that has ended leaves
its batch; elsewhere it is filled up to the longest, since draws and beams would depend on it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from prunegrid.common import timing_guard
from prunegrid.common.device_meters import peak_memory, synchronize
from prunegrid.common.errors import PrunegridError, explained
from prunegrid.data.prompts import Prompt, Prompter
from prunegrid.evaluation import decoding
from prunegrid.evaluation.translation import Sources
from prunegrid.models import caches
from prunegrid.models.forward import (
    inner,
    is_encoder_decoder,
    start_token,
)
from prunegrid.models.padding import unpadded

log = logging.getLogger(__name__)

# Largest share of pads among all positions of prompts.
PADS = 0.1


class Prediction(NamedTuple):
    """The text that a model wrote for one prompt.

    Attributes:
        text: decoded, special tokens and outer blank space left out.
        tokens: generated tokens, the stop token included.
        hit_limit: no stop token came within `max_new_tokens`.
    """

    text: str
    tokens: int
    hit_limit: bool


def generation_settings(settings: dict, stops: Sequence[int], pad: int) -> Any:
    """Return the GenerationConfig of a generation profile; nothing comes from the model's own.

    Args:
        settings: max_new_tokens, do_sample, temperature, top_p, num_beams.
        stops, pad: as of `generate`.
    """
    from transformers import GenerationConfig

    sampling = {}
    if settings["do_sample"]:
        # The library's default `top_k` would cut to the 50 likeliest without being asked.
        sampling = {name: settings[name] for name in ("temperature", "top_p")} | {"top_k": 0}
    return GenerationConfig(
        max_new_tokens=settings["max_new_tokens"],
        do_sample=settings["do_sample"],
        num_beams=settings["num_beams"],
        eos_token_id=list(stops),
        pad_token_id=pad,
        use_cache=True,
        **sampling,
    )


def batch_inputs(
    rows: Sequence[Sequence[int]], pad: int, device: str, side: Literal["left", "right"]
) -> dict[str, Tensor]:
    """Return input_ids and attention_mask [batch, longest row], filled on one side."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for line, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(len(row))
        ids[line, place], mask[line, place] = torch.tensor(row), 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def until_stop(ids: Sequence[int], stops: set[int]) -> tuple[list[int], bool]:
    """Return the tokens before the first stop token, and whether there was one."""
    for place, token in enumerate(ids):
        if token in stops:
            return list(ids[:place]), True
    return list(ids), False


def cut_at(text: str, marks: Sequence[str] | None) -> str:
    """Return the text before the first of the marks, without outer blank space."""
    for mark in marks or ():
        text = text.partition(mark)[0]
    return text.strip()


def batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return the rows of each batch by index, the longest first.

    A batch has at most `size` rows, and fewer where pads would be more than PADS of all positions.

    Args:
        lengths: tokens of each row.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    while True:
        positions = sum(lengths[group[0]] * len(group) for group in groups)
        if positions - sum(lengths) <= PADS * positions:
            return groups
        # A cut before a row saves pads: the rows behind it are no longer filled to the first.
        saved = {
            (number, cut): (len(group) - cut) * (lengths[group[0]] - lengths[group[cut]])
            for number, group in enumerate(groups)
            for cut in range(1, len(group))
        }
        number, cut = max(saved, key=saved.__getitem__)
        groups[number : number + 1] = [groups[number][:cut], groups[number][cut:]]


def generate(
    model: nn.Module,
    prompter: Prompter | Sources,
    rows: Sequence[Prompt],
    settings: dict,
    *,
    stops: Sequence[int],
    pad: int,
    device: str,
    seed: int | None = None,
) -> tuple[list[Prediction], dict]:
    """Return one prediction a prompt, in the order of the prompts, and the facts of the run.

    Args:
        model: a decoder or an encoder-decoder, on `device`, in eval mode.
        prompter: of the prompts: it decodes; that of an encoder-decoder names the token that each
            translation begins with (`forced`).
        settings: a generation profile.
        stops: tokens that end a prediction.
        pad: token that fills batches.
        seed: of sampling; None where nothing is drawn.

    Returns:
        predictions, and the facts of `_facts`: wall seconds of decoding alone, generated tokens,
        computed ones (positions of prompts and generated ones), pads of those (of prompts, and all
        that follows a row's stop token), peak memory. A beam search counts each row once.
    """
    config = generation_settings(settings, stops, pad)
    before = _set_up(model, prompter, config)
    if not caches.are_right(model, settings["batch_size"]):
        log.info("the model's cache is wrong in batches: it is not used")
        config.use_cache = False
    # Decoders go on at the right end of a prompt; encoders are trained with padding there.
    side = "left" if before is None else "right"
    predictions: dict[int, Prediction] = {}
    seconds, computed = 0.0, 0
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        if seed is not None:
            torch.manual_seed(seed)
        planned = _planned(model, rows, settings["batch_size"], pad, side)
        for picked in tqdm(planned, disable=None, unit="batch"):
            inputs = batch_inputs([rows[i].ids for i in picked], pad, device, side)
            written, count, spent = _write_timed(model, inputs, config, before, device)
            seconds += spent
            computed += inputs["input_ids"].numel() + count
            for i, ids in zip(picked, written, strict=True):
                predictions[i] = _finish(prompter, ids, set(stops), settings.get("stop"))
            log.info("%d of %d predictions, %.1f s", len(predictions), len(rows), seconds)
    ordered = [predictions[i] for i in range(len(rows))]
    return ordered, _facts(rows, ordered, seconds, computed, device)


def _planned(
    model: nn.Module, rows: Sequence[Prompt], size: int, pad: int, side: str
) -> list[list[int]]:
    """Return the prompts of each batch by index, as the model takes them."""
    lengths = [len(row.ids) for row in rows]
    # The longest first: memory that will not suffice fails in the first batch.
    planned = batches(lengths, size)
    with _explained(model):
        return unpadded(model, planned, pad, side, lengths.__getitem__, writing=True)


def _facts(
    rows: Sequence[Prompt],
    predictions: list[Prediction],
    seconds: float,
    computed: int,
    device: str,
) -> dict:
    """Return the facts of a run of `generate`."""
    generated = sum(p.tokens for p in predictions)
    return {
        "generate_seconds": seconds,
        "generated_tokens": generated,
        "computed_tokens": computed,
        "pad_tokens": computed - generated - sum(len(row.ids) for row in rows),
        "peak_memory_bytes": peak_memory(device),
    }


def _set_up(model: nn.Module, prompter: Prompter | Sources, config: Any) -> int | None:
    """Give a model its config; return how many tokens its output has before the first new one.

    None for a decoder, whose output begins with the prompt.
    """
    own = inner(model)
    # It takes the place of the model's own, so that none of that is mixed in.
    own.generation_config = config
    if not is_encoder_decoder(own):
        return None
    config.decoder_start_token_id = start_token(own)
    config.forced_bos_token_id = prompter.forced
    return 1 if prompter.forced is None else 2


def _write_timed(
    model: nn.Module, inputs: dict[str, Tensor], config: Any, before: int | None, device: str
) -> tuple[list[list[int]], int, float]:
    """Return the new tokens of each row, how many were computed, and the seconds spent."""
    synchronize(device)
    began = time.perf_counter()
    running = timing_guard.running("generation")
    with running, torch.inference_mode(), _explained(model):
        written, count = decoding.write(model, inputs, config, before)
    synchronize(device)
    return written, count, time.perf_counter() - began


def _explained(model: nn.Module) -> contextlib.AbstractContextManager:
    """Return a context in which a refusal of transformers' `generate` is told as an error."""
    fails = PrunegridError(
        f"{type(inner(model)).__name__} cannot write texts",
        expected="a model whose `generate` of transformers takes a batch of prompts",
        remedy="use another model",
    )
    return explained(fails, ValueError)


def _finish(
    prompter: Prompter | Sources, ids: list[int], stops: set[int], marks: Sequence[str] | None
) -> Prediction:
    """Return the prediction of the tokens that were written for a prompt."""
    kept, stopped = until_stop(ids, stops)
    whole = prompter.decode(kept)
    if not stopped:  # the limit may halve a character, whose bytes are then no text
        for _ in range(3):  # of four bytes at most
            whole = whole.removesuffix("\ufffd")
        whole = whole.rstrip()
    text = cut_at(whole, marks)
    # A text that ended at a stop mark ended by itself, whatever came after it.
    return Prediction(text, len(kept) + stopped, not (stopped or text != whole))
