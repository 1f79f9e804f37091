"""A model out of a Hugging Face folder, with every tensor accounted for."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prunegrid.common.errors import PrunegridError, summary
from prunegrid.models import loading, weight_files

log = logging.getLogger(__name__)

# So many layers may do without tensors of their own.
SHARING_LAYERS = 100

# One of these a tokenizer's folder has; without any, transformers would make an empty one.
VOCABULARIES = (
    *("tokenizer.json", "vocab.json", "vocab.txt"),
    *("tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model"),
)
# What earlier versions of transformers saved of GPT-2, -J and -Neo: the score of a masked place.
MASKED = ".masked_bias"


def load(
    folder: Path,
    names: Iterable[str],
    task: str,
    dtype: torch.dtype,
    where: str,
    tokenizer: bool = True,
) -> tuple[nn.Module, Any, str | None]:
    """Return (model in eval mode on the CPU, tokenizer, note) of a folder.

    The tensors are read by `weights` and handed over by name: transformers never opens a weight
    file here, so no pickle, adapter or remote code can come in by its own search.

    Args:
        folder: holds config.json, weights and tokenizer.
        names: the files of the folder that count.
        task: as `prunegrid.models.loading` lists them.
        dtype: of the model that is returned.
        where: label for errors.
        tokenizer: read it; without, None is returned for it.

    Raises:
        PrunegridError: the config is of another kind of model, or the tensors are not exactly
            those that it describes.
    """
    config = read_config(folder, task, where)
    layout = weight_files.choose(list(names), where)
    tensors = weight_files.read(folder, layout)
    _require_layers(config, len(tensors), where)
    skeleton, ties = _skeleton(config, task, where)
    weight_files.check_tied(tensors, ties, where)
    try:
        model, found = type(skeleton).from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype, output_loading_info=True
        )
    except Exception as error:  # from anywhere in a model's code
        raise PrunegridError(
            f"the weights do not fit the config ({summary(error)})",
            where=where,
            expected="the tensors that its config.json describes",
            remedy="the folder mixes two models, or is incomplete: download it again",
        ) from error
    note = account(model, found, task, where)
    model.config.name_or_path = ""
    set_generation(model, folder, where)
    if layout.format == "pickled":
        note = "; ".join(filter(None, ["converted from " + layout.file, note]))
    return model.eval(), read_tokenizer(folder, where) if tokenizer else None, note


def _skeleton(config, task: str, where: str) -> tuple[nn.Module, dict[str, str]]:
    """Return (the config's model on the meta device, {tied name: name} where the config ties).

    Raises:
        PrunegridError: the config's values make no model.
    """
    try:
        with torch.device("meta"):
            skeleton = loading.auto_class(loading.of_task(task)).from_config(
                config, trust_remote_code=False
            )
        counts = _says_what_is_tied(config)
    except Exception as error:  # odd values fail anywhere in a model's code
        raise PrunegridError(
            f"no model can be made from config.json ({summary(error)})",
            where=where,
            expected="the values of a model that transformers has",
            remedy="check the file, or use another model",
        ) from error
    return skeleton, (getattr(skeleton, "all_tied_weights_keys", None) or {}) if counts else {}


def _require_layers(config, tensors: int, where: str) -> None:
    """Check that a config does not ask for layers without end: a skeleton takes its time each.

    A layer has a tensor at least, but some models share theirs among a few layers (ALBERT).

    Raises:
        PrunegridError: it asks for more than could have tensors.
    """
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
                    remedy="the folder mixes two models, or is incomplete: download it again",
                )


def _says_what_is_tied(config) -> bool:
    """Return whether `tie_word_embeddings: false` would count; T5's config always ties.

    Where it would not, transformers ties weights that are equal in the files, and others not.
    """
    untied = type(config).from_dict({**config.to_dict(), "tie_word_embeddings": False})
    return not untied.tie_word_embeddings


def read_config(folder: Path, task: str, where: str):
    """Return the folder's config after checking that this program can use it.

    Raises:
        PrunegridError: missing, unreadable, of an unknown type, quantized, or not of the task.
    """
    path = Path(folder) / "config.json"
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        config = loading.read_config(folder)
    except FileNotFoundError as error:
        raise PrunegridError(
            "there is no config.json",
            where=where,
            expected="a folder as save_pretrained writes it",
            remedy="name such a folder, or a .gguf file",
        ) from error
    except Exception as error:  # odd values fail anywhere in a config's code
        needs_code = "auto_map" in path.read_text(encoding="utf-8", errors="replace")
        raise PrunegridError(
            f"config.json cannot be used ({summary(error)})",
            where=where,
            expected="a model type that transformers has",
            remedy="models that bring their own code are not run: use another one"
            if needs_code
            else "check the file, or use another model",
        ) from error
    made_as = _architectures(plain, where)
    if "quantization_config" in plain:
        raise PrunegridError(
            "the model is already quantized",
            where=where,
            expected="float weights",
            remedy="name the model that it was made from",
        )
    kind = loading.of_task(task)
    known = type(config) in loading.auto_class(kind)._model_mapping
    if not known or (made_as and not loading.is_of(kind, made_as)):
        raise PrunegridError(
            f"the model is a {', '.join(made_as) or config.model_type}",
            where=where,
            expected=kind.title,
            remedy="name another model",
        )
    return config


def _architectures(plain: dict, where: str) -> list[str]:
    """Return the names of the classes that a config says it was made as.

    Raises:
        PrunegridError: they are no names.
    """
    made_as = plain.get("architectures") or []
    if not isinstance(made_as, list) or not all(isinstance(name, str) for name in made_as):
        raise PrunegridError(
            f"architectures is {made_as!r}",
            where=f"{where}, config.json",
            expected="a list of names of classes",
            remedy="check the file, or use another model",
        )
    return made_as


def account(model: nn.Module, found: dict, task: str, where: str) -> str | None:
    """Return a note on what the source has besides, after checking that nothing else is amiss.

    For an encoder and a masked language model, heads of other tasks that the source has are left
    out; for an encoder, a pooler that the source lacks is set to zero: no layer's output depends
    on either, and random numbers would not be repeatable. What masked places score is no weight.

    Raises:
        PrunegridError: tensors are missing, left over, or of another shape.
    """
    missing, extra = set(found["missing_keys"]), set(found["unexpected_keys"])
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
        "of another shape": {str(item[0]) for item in found["mismatched_keys"]},
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


def set_generation(model: nn.Module, folder: Path, where: str) -> None:
    """Give the model the folder's generation_config.json, where it has one."""
    from transformers import GenerationConfig

    if not (Path(folder) / "generation_config.json").is_file() or not model.can_generate():
        return
    try:
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # odd values fail anywhere
        raise PrunegridError(
            f"generation_config.json cannot be used ({summary(error)})",
            where=where,
            remedy="check the file",
        ) from error


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
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **extra
        )
    except Exception as error:  # tokenizers raises bare Exception
        raise PrunegridError(
            f"the tokenizer cannot be read ({summary(error)})",
            where=where,
            expected="tokenizer.json, or vocab.json with merges.txt, beside config.json",
            remedy="add the model's tokenizer files to the folder",
        ) from error
    tokenizer.name_or_path = ""
    for trace in ("is_local", "local_files_only"):  # of this call, not of the tokenizer
        tokenizer.init_kwargs.pop(trace, None)
    return tokenizer
