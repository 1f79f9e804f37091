"""Batched decoding: sorted by length, stopped at EOS; what decoders write for prompts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from tqdm.auto import tqdm

from prunegrid import clock
from prunegrid.meters import peak_memory, synchronize
from prunegrid.prompts import Prompt, Prompter

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a model wrote for one prompt.

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
        stops: tokens that end a prediction.
        pad: token that fills the batch.
    """
    from transformers import GenerationConfig

    sampling = {}
    if settings["do_sample"]:
        sampling = {
            "temperature": settings["temperature"],
            "top_p": settings["top_p"],
            # The library's default would cut to the 50 likeliest without being asked.
            "top_k": 0,
        }
    return GenerationConfig(
        max_new_tokens=settings["max_new_tokens"],
        do_sample=settings["do_sample"],
        num_beams=settings["num_beams"],
        eos_token_id=list(stops),
        pad_token_id=pad,
        use_cache=True,
        **sampling,
    )


@dataclass(frozen=True)
class Decoding:
    """How batches are decoded.

    Attributes:
        config: a GenerationConfig, see `generation_settings`.
        stops: tokens that end a prediction.
        pad: token that fills batches.
        side: where shorter prompts are filled: decoders go on at the right end, encoders are
            trained with padding there.
        lead: tokens that the output has before the first new one; None: it begins with the prompts.
        finish: the prediction of the tokens before a stop token, and whether there was one.
    """

    config: Any
    stops: Sequence[int]
    pad: int
    side: Literal["left", "right"]
    lead: int | None
    finish: Callable[[list[int], bool], Prediction]


def batch_inputs(
    rows: Sequence[Sequence[int]], pad: int, device: str, side: Literal["left", "right"]
) -> dict[str, torch.Tensor]:
    """Return input_ids and attention_mask [batch, longest row], filled on one side."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for line, row in enumerate(rows):
        place = slice(width - len(row), width) if side == "left" else slice(len(row))
        ids[line, place], mask[line, place] = torch.tensor(row), 1
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def use_config(model: nn.Module, config: Any) -> None:
    """Make `config` the model's whole generation config, so that none of its own is mixed in."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    inner.generation_config = config


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


def decode(
    model: nn.Module,
    rows: Sequence[Prompt],
    decoding: Decoding,
    *,
    batch_size: int,
    device: str,
    seed: int | None = None,
) -> tuple[list[Prediction], dict]:
    """Return one prediction a prompt, in the order of the prompts, and the facts of the run.

    Args:
        model: on `device`, in eval mode.
        rows: prompts.
        seed: of sampling; None where nothing is drawn.

    Returns:
        predictions, and {generate_seconds (wall, decoding alone), generated_tokens,
        peak_memory_bytes}.
    """
    use_config(model, decoding.config)
    # The longest first: memory that will not suffice fails in the first batch.
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i].ids), i))
    predictions: dict[int, Prediction] = {}
    seconds, ends = 0.0, set(decoding.stops)
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        if seed is not None:
            torch.manual_seed(seed)
        for start in tqdm(range(0, len(order), batch_size), disable=None, unit="batch"):
            picked = order[start : start + batch_size]
            asked = [rows[i].ids for i in picked]
            inputs = batch_inputs(asked, decoding.pad, device, decoding.side)
            synchronize(device)
            began = time.perf_counter()
            with clock.running("generation"), torch.inference_mode():
                out = model.generate(**inputs, generation_config=decoding.config)
            synchronize(device)
            seconds += time.perf_counter() - began
            lead = inputs["input_ids"].shape[1] if decoding.lead is None else decoding.lead
            for i, ids in zip(picked, out[:, lead:].tolist(), strict=True):
                predictions[i] = decoding.finish(*until_stop(ids, ends))
            log.info("%d of %d predictions, %.1f s", len(predictions), len(rows), seconds)
    facts = {
        "generate_seconds": seconds,
        "generated_tokens": sum(p.tokens for p in predictions.values()),
        "peak_memory_bytes": peak_memory(device),
    }
    return [predictions[i] for i in range(len(rows))], facts


def generate(
    model: nn.Module,
    prompter: Prompter,
    rows: Sequence[Prompt],
    settings: dict,
    *,
    stops: Sequence[int],
    pad: int,
    device: str,
    seed: int | None = None,
) -> tuple[list[Prediction], dict]:
    """Return what a decoder writes for each prompt, see `decode`.

    Args:
        settings: a generation profile.
        stops: tokens that end a prediction.
        pad: token that fills batches.
    """

    def finish(kept: list[int], stopped: bool) -> Prediction:
        whole = prompter.decode(kept)
        text = cut_at(whole, settings.get("stop"))
        # A text that ended at a stop mark ended by itself, whatever came after it.
        return Prediction(text, len(kept) + stopped, not (stopped or text != whole))

    config = generation_settings(settings, stops, pad)
    decoding = Decoding(config, stops, pad, side="left", lead=None, finish=finish)
    size = settings["batch_size"]
    return decode(model, rows, decoding, batch_size=size, device=device, seed=seed)
