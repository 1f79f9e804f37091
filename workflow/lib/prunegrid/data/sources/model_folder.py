"""Models of Hugging Face folders, with every tensor accounted for."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunegrid.common.errors import PrunegridError, explained
from prunegrid.common.model_files import VOCABULARIES, choose
from prunegrid.data.sources import accounts, text_part
from prunegrid.models import bounded_tokenizer, forward, loading, weight_files

log = logging.getLogger(__name__)

# The number of layers that may lack tensors of their own.
SHARING_LAYERS = 100
MIXED = "the folder mixes two models, or is incomplete: download it again"
CHECK = "check the file, or use another model"
CUSTOM_CODE = "models that bring their own code are not run: use another one"


def load(
    folder: Path,
    names: Iterable[str],
    task: str,
    dtype: torch.dtype,
    where: str,
    tokenizer: bool = True,
) -> tuple[nn.Module, Any, str | None]:
    """Return (model in eval mode on the CPU, tokenizer, note) of a folder.

    `weight_files` reads the tensors: transformers never opens a weight file here, so its own search
    brings in no pickle, adapter or remote code.

    Args:
        names: the files of the folder that count.
        task: as `prunegrid.models.loading` lists them.
        tokenizer: whether to read it; None is returned if not.

    Raises:
        PrunegridError: the config is of another kind of model, or the tensors are not exactly
            those that it describes.
    """
    config = read_config(folder, task, where)
    layout = choose(list(names), where)
    tensors = weight_files.read(folder, layout)
    _require_layers(config, len(tensors), where)
    skeleton, ties = _skeleton(config, task, where)
    notes, whole = [], None
    if config.model_type != loading.read_config(folder).model_type:
        whole = tensors
        tensors, note = text_part.tensors_of(whole, skeleton, where)
        notes.append(note)
    weight_files.check_tied(tensors, ties, where)
    model, info = _filled(type(skeleton), config, tensors, dtype, where)
    notes.append(accounts.account(model, info, task, where, tensors))
    if whole is not None:
        text_part.require_same(model, folder, whole, dtype, where)
    model.config.name_or_path = ""
    _set_generation(model, folder, where)
    if layout.format == "pickled":
        notes.insert(0, "converted from " + layout.file)
    found = read_tokenizer(folder, where) if tokenizer else None
    if found is not None:
        notes.append(_beyond(found, model))
    return model.eval(), found, "; ".join(filter(None, notes)) or None


def _filled(kind: type, config, tensors: Any, dtype: torch.dtype, where: str) -> tuple:
    """Return (a model of a config with these tensors, what transformers says of the loading)."""
    misfit = PrunegridError(
        "the weights do not fit the config",
        where=where,
        expected="the tensors that its config.json describes",
        remedy=MIXED,
    )
    with explained(misfit):
        return kind.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True
        )


def _beyond(tokenizer: Any, model: nn.Module) -> str | None:
    """Return a note on tokens that the model has no embedding for."""
    rows = forward.embedding_rows(model)
    tokens = {} if rows is None else bounded_tokenizer.beyond(tokenizer, rows)
    if not tokens:
        return None
    number, token = next(iter(tokens.items()))
    return (
        f"{len(tokens)} tokens of the tokenizer are beyond the model's {rows} embeddings, the "
        f"first is {token!r} ({number}): texts with one are refused"
    )


def _skeleton(config, task: str, where: str) -> tuple[nn.Module, dict[str, str]]:
    """Return (the config's model on the meta device, {tied name: name} if the config ties)."""
    wrong = PrunegridError(
        "no model can be made from config.json",
        where=where,
        expected="the values of a model that transformers has",
        remedy=CHECK,
    )
    with explained(wrong):
        auto = loading.auto_class(loading.of_task(task))
        with torch.device("meta"):
            skeleton = auto.from_config(config, trust_remote_code=False)
        # T5's config always ties. Then transformers ties the weights that are equal in the files.
        untied = type(config).from_dict({**config.to_dict(), "tie_word_embeddings": False})
        if untied.tie_word_embeddings:
            return skeleton, {}
    return skeleton, getattr(skeleton, "all_tied_weights_keys", None) or {}


def _require_layers(config, tensors: int, where: str) -> None:
    """Check that a config names no more layers than can have tensors: each makes a module."""
    # Some models share the tensors of a few layers (ALBERT).
    facts = config.to_dict()
    nested = [value for value in facts.values() if isinstance(value, dict)]
    for part in (facts, *nested):
        for name, value in part.items():
            layers = re.search(r"layers?$", str(name)) and type(value) is int
            if layers and value > max(tensors, SHARING_LAYERS):
                raise PrunegridError(
                    f"{name} is {value}, and the weights are {tensors} tensors",
                    where=f"{where}, config.json",
                    expected="a tensor for each layer at least",
                    remedy=MIXED,
                )


def read_config(folder: Path, task: str, where: str):
    """Return the folder's config after checking that this program can use it.

    Of a model that takes images or sounds too, a causal language model is the text part.

    Raises:
        PrunegridError: missing, unreadable, of an unknown type, quantized, or not of the task.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise PrunegridError(
            "there is no config.json",
            where=where,
            expected="a folder as save_pretrained writes it",
            remedy="name such a folder, or a .gguf file",
        )
    brings_code = "auto_map" in path.read_text(encoding="utf-8", errors="replace")
    alien = PrunegridError(
        "config.json cannot be used",
        where=where,
        expected="a model type that transformers has",
        remedy=CUSTOM_CODE if brings_code else CHECK,
    )
    with explained(alien):
        plain = json.loads(path.read_text(encoding="utf-8"))
        config = loading.read_config(folder)
    names = _architectures(plain, where)
    kind = loading.of_task(task)
    if task == "causal-lm" and (text := text_part.text_config(config)) is not None:
        return text
    if not loading.is_of(kind, names, config):
        raise PrunegridError(
            f"the model is a {', '.join(names) or config.model_type}",
            where=where,
            expected=kind.title,
            remedy=_way_out(config, names),
        )
    loading.require_task(config, task, where)
    return config


def _architectures(plain: dict, where: str) -> list[str]:
    """Return the classes that a config names, of a model that is not quantized."""
    names = plain.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise PrunegridError(
            f"architectures is {names!r}",
            where=f"{where}, config.json",
            expected="a list of names of classes",
            remedy=CHECK,
        )
    if "quantization_config" in plain:
        raise PrunegridError(
            "the model is already quantized",
            where=where,
            expected="float weights",
            remedy="name the model that it was made from",
        )
    return names


def _way_out(config, names: list[str]) -> str:
    """Return what to do with a config that is not of the task."""
    tasks = [k.task for k in loading.KINDS if k.task and loading.is_of(k, names, config)]
    if tasks:
        return f"say `task: {tasks[0]}`" + (f", or {', '.join(tasks[1:])}" if tasks[1:] else "")
    return "name another model"


def _set_generation(model: nn.Module, folder: Path, where: str) -> None:
    """Give the model the folder's generation_config.json, if it has one."""
    from transformers import GenerationConfig

    name = "generation_config.json"
    if (Path(folder) / name).is_file() and model.can_generate():
        wrong = PrunegridError(f"{name} cannot be used", where=where, remedy="check the file")
        with explained(wrong):
            settings = GenerationConfig.from_pretrained(folder, local_files_only=True)
            model.generation_config = settings


def read_tokenizer(folder: Path, where: str, gguf_file: str | None = None):
    """Return the folder's tokenizer, without the path that it came from.

    Raises:
        PrunegridError: there is none that can be read.
    """
    from transformers import AutoTokenizer

    extra = {"gguf_file": gguf_file} if gguf_file else {}
    if not gguf_file and not any((Path(folder) / name).is_file() for name in VOCABULARIES):
        raise PrunegridError(
            "there is no tokenizer",
            where=where,
            expected=f"one of {', '.join(VOCABULARIES)} beside config.json",
            remedy="add it, or say `tokenizer: false` where weights alone are asked for",
        )
    damaged = PrunegridError(
        "the tokenizer cannot be read",
        where=where,
        expected="tokenizer.json, or vocab.json with merges.txt, beside config.json",
        remedy="add the model's tokenizer files to the folder",
    )
    with explained(damaged):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **extra
        )
    tokenizer.name_or_path = ""
    for trace in ("is_local", "local_files_only"):  # of this call, not of the tokenizer
        tokenizer.init_kwargs.pop(trace, None)
    return tokenizer
