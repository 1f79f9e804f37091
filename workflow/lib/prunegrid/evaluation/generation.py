"""Batched decoding: rows of like length together, each stopped at EOS; what decoders write.

Pads are computed for nothing. Those of prompts are at most PADS of all positions of prompts: a
batch whose rows differ too much is cut. A row that has ended leaves its batch where tokens are
neither drawn nor searched; else draws would depend on it, and it is filled up to the longest.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from tqdm.auto import tqdm

from prunegrid.common import timing_guard
from prunegrid.common.device_meters import peak_memory, synchronize
from prunegrid.data.prompts import Prompt, Prompter
from prunegrid.models.padding import equally_long, sees_padding

log = logging.getLogger(__name__)

# Largest share of pads among all positions of prompts.
PADS = 0.1


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


def batches(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Return the rows of each batch by index, the longest first.

    Args:
        lengths: tokens of each row.
        size: the most rows a batch; fewer where pads would be more than PADS of all positions.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    while True:
        positions = sum(lengths[group[0]] * len(group) for group in groups)
        if positions - sum(lengths) <= PADS * positions:
            return groups
        # What a cut before a row saves: the rows behind it are no longer filled to the first.
        saved = {
            (number, cut): (len(group) - cut) * (lengths[group[0]] - lengths[group[cut]])
            for number, group in enumerate(groups)
            for cut in range(1, len(group))
        }
        number, cut = max(saved, key=saved.__getitem__)
        groups[number : number + 1] = [groups[number][:cut], groups[number][cut:]]


def _first_stop(stops: Sequence[int]) -> Any:
    """Return a criterion that ends a whole batch when one of its rows ends."""
    from transformers import StoppingCriteria

    class FirstStop(StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
            ends = torch.tensor(list(stops), device=input_ids.device)
            return torch.isin(input_ids[:, -1], ends).any().expand(len(input_ids))

    return FirstStop()


def _write(model: nn.Module, inputs: dict[str, torch.Tensor], decoding: Decoding):
    """Return the new tokens of each row of a batch, and how many were computed."""
    config = decoding.config
    if config.do_sample or config.num_beams > 1 or decoding.lead is not None:
        out = model.generate(**inputs, generation_config=config)
        new = out[:, inputs["input_ids"].shape[1] if decoding.lead is None else decoding.lead :]
        return new.tolist(), new.numel()
    return _write_greedily(model, inputs, decoding)


def _write_greedily(model: nn.Module, inputs: dict[str, torch.Tensor], decoding: Decoding):
    """Return the same where a row that has ended leaves its batch, and the others go on."""
    ids, mask, cache = inputs["input_ids"], inputs["attention_mask"], None
    width, computed = ids.shape[1], 0
    rows, written = torch.arange(len(ids), device=ids.device), {}
    config, ends = copy.deepcopy(decoding.config), torch.tensor(list(decoding.stops)).to(ids.device)
    config.return_dict_in_generate = True
    while len(rows):
        config.max_new_tokens = width + decoding.config.max_new_tokens - ids.shape[1]
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            generation_config=config,
            stopping_criteria=[_first_stop(decoding.stops)],
        )
        new = out.sequences.shape[1] - ids.shape[1]
        computed += new * len(rows)
        ids, cache = out.sequences, out.past_key_values
        ended = torch.isin(ids[:, -1], ends) | (new == config.max_new_tokens)
        written |= dict(zip(rows[ended].tolist(), ids[ended, width:].tolist(), strict=True))
        left = (~ended).nonzero()[:, 0]
        rows, ids = rows[left], ids[left]
        mask = torch.cat([mask[left], mask.new_ones(len(left), new)], dim=1)
        if cache is not None:
            cache.batch_select_indices(left)
    return [written[row] for row in range(len(written))], computed


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
        batch_size: the most rows a batch.
        seed: of sampling; None where nothing is drawn.

    Returns:
        predictions, and {generate_seconds (wall, decoding alone), generated_tokens,
        computed_tokens (positions of prompts and generated ones), pad_tokens (of those: pads of
        prompts, and whatever follows a row's stop token), peak_memory_bytes}. A beam search
        counts each row once.
    """
    use_config(model, decoding.config)
    predictions: dict[int, Prediction] = {}
    seconds, computed, ends = 0.0, 0, set(decoding.stops)
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        if seed is not None:
            torch.manual_seed(seed)
        # The longest first: memory that will not suffice fails in the first batch.
        planned = batches([len(row.ids) for row in rows], batch_size)
        if sees_padding(model, decoding.pad, decoding.side):
            planned = [
                alike
                for batch in planned
                for alike in equally_long(batch, lambda i: len(rows[i].ids))
            ]
        for picked in tqdm(planned, disable=None, unit="batch"):
            asked = [rows[i].ids for i in picked]
            inputs = batch_inputs(asked, decoding.pad, device, decoding.side)
            synchronize(device)
            began = time.perf_counter()
            with timing_guard.running("generation"), torch.inference_mode():
                written, count = _write(model, inputs, decoding)
            synchronize(device)
            seconds += time.perf_counter() - began
            computed += inputs["input_ids"].numel() + count
            for i, ids in zip(picked, written, strict=True):
                predictions[i] = decoding.finish(*until_stop(ids, ends))
            log.info("%d of %d predictions, %.1f s", len(predictions), len(rows), seconds)
    generated = sum(p.tokens for p in predictions.values())
    facts = {
        "generate_seconds": seconds,
        "generated_tokens": generated,
        "computed_tokens": computed,
        "pad_tokens": computed - generated - sum(len(row.ids) for row in rows),
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
