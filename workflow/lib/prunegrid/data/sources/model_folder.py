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
from prunegrid.models import loading, weight_files

log = logging.getLogger(__name__)

# The number of layers that may lack tensors of their own.
SHARING_LAYERS = 100
# A constant, the score of a masked place, that older files of GPT-2, -J and -Neo hold.
MASKED = ".masked_bias"
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
    weight_files.check_tied(tensors, ties, where)
    misfit = PrunegridError(
        "the weights do not fit the config",
        where=where,
        expected="the tensors that its config.json describes",
        remedy=MIXED,
    )
    with explained(misfit):
        model, info = type(skeleton).from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True
        )
    note = account(model, info, task, where)
    model.config.name_or_path = ""
    _set_generation(model, folder, where)
    if layout.format == "pickled":
        note = "; ".join(filter(None, ["converted from " + layout.file, note]))
    return model.eval(), read_tokenizer(folder, where) if tokenizer else None, note


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
    kind = loading.of_task(task)
    known = type(config) in loading.auto_class(kind)._model_mapping
    if not known or (names and not loading.is_of(kind, names)):
        raise PrunegridError(
            f"the model is a {', '.join(names) or config.model_type}",
            where=where,
            expected=kind.title,
            remedy="name another model",
        )
    return config


def account(model: nn.Module, info: dict, task: str, where: str) -> str | None:
    """Return a note on tensors left out or added, after checking that all others are the config's.

    An encoder or masked language model loses the heads of other tasks; an encoder's missing pooler
    is set to zero: no layer's output depends on either, and random numbers would not be repeatable.

    Args:
        info: transformers' loading info.

    Raises:
        PrunegridError: tensors are missing, left over, or of another shape.
    """
    missing, extra = set(info["missing_keys"]), set(info["unexpected_keys"])
    notes = []
    constants = {name for name in extra if name.endswith(MASKED)}
    if constants:
        notes.append(f"left out: {len(constants)} times {MASKED[1:]}, a constant")
    extra -= constants
    if task == "encoder":
        pooler = {name for name in missing if "pooler" in name.split(".")}
        for name in pooler:
            nn.init.zeros_(model.get_parameter(name))
        if pooler:
            notes.append("the source has no pooler: zeros stand in its place")
        missing -= pooler
    if task in ("encoder", "masked-lm"):
        if extra:
            notes.append("left out: " + ", ".join(sorted({name.split(".")[0] for name in extra})))
        extra = set()
    amiss = {
        "missing": missing,
        "left over": extra,
        "of another shape": {str(item[0]) for item in info["mismatched_keys"]},
    }
    for fault, names in amiss.items():
        if names:
            listed = ", ".join(sorted(names)[:3]) + (", …" if len(names) > 3 else "")
            raise PrunegridError(
                f"{len(names)} tensors are {fault}: {listed}",
                where=where,
                expected="exactly the tensors that its config.json describes",
                remedy="the folder is incomplete, or of another model: download it again",
            )
    return "; ".join(notes) or None


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
