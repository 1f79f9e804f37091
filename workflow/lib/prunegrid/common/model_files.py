"""The files of a model folder that are read: weights in one format, config and tokenizer.

Anything else that lies there (a README, weights in another format, a cache) counts in no key.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from prunegrid.common.errors import PrunegridError

# In order of preference; the index comes with files of its own.
FORMATS = {
    "safetensors": ("model.safetensors", "model.safetensors.index.json"),
    "pickled": ("pytorch_model.bin", "pytorch_model.bin.index.json"),
}
# The file that peft writes beside an adapter; transformers would load it without a word.
ADAPTER = "adapter_config.json"
# A tokenizer's folder has one of these; without any, transformers would make an empty tokenizer.
VOCABULARIES = (
    *("tokenizer.json", "vocab.json", "vocab.txt"),
    *("tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model"),
)
# Files of a model beside its weights; the last rows are of single tokenizers of transformers.
CONFIG_FILES = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json"),
    *("added_tokens.json", "merges.txt", "chat_template.jinja", *VOCABULARIES),
    *("source.spm", "target.spm", "target_vocab.json", "vocab-src.json", "vocab-tgt.json"),
    *("sentencepiece.model", "spm_char.model", "prophetnet.tokenizer", "bpe.codes", "dict.txt"),
    *("byte_maps.json", "emoji.json", "entity_vocab.json", "normalizer.json"),
    *("word_pronunciation.json", "word_shape.json"),
)


@dataclass(frozen=True)
class Layout:
    """The format of a model's weights, and its single file or its index."""

    format: str
    file: str

    @property
    def sharded(self) -> bool:
        """Return whether `file` is an index of several weight files."""
        return self.file.endswith(".index.json")


def choose(names: Collection[str], where: str) -> Layout:
    """Return what to read among a folder's files: safetensors before `.bin`.

    Raises:
        PrunegridError: there are no weights that can be read.
    """
    if ADAPTER in names:
        raise PrunegridError(
            "the folder holds a LoRA adapter",
            where=where,
            expected="the weights of a whole model",
            remedy="merge it into its base and name the folder of the sum: PeftModel."
            "from_pretrained(base, folder).merge_and_unload().save_pretrained(other_folder)",
        )
    for kind, (single, index) in FORMATS.items():
        for name in (single, index):
            if name in names:
                return Layout(kind, name)
    raise PrunegridError(
        "no weights found; it holds " + (", ".join(sorted(names)[:12]) or "no file"),
        where=where,
        expected=" or ".join(single for single, _ in FORMATS.values()) + " (or an index of shards)",
        remedy="name a model in one of these formats",
    )


def shards(index: Path) -> list[str]:
    """Return the names of the weight files that an index lists.

    Raises:
        PrunegridError: it is no index, or names files outside of its folder.
    """
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        names = sorted({str(name) for name in listed})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise PrunegridError(
            "not an index of weight files",
            where=str(index),
            expected='{"weight_map": {tensor: file}}',
            remedy="download it again",
        ) from error
    for name in names:
        if "/" in name or "\\" in name or name.startswith("."):
            raise PrunegridError(
                f"the index names the file {name!r}",
                where=str(index),
                expected="files beside the index",
            )
    return names


def weight_parts(folder: Path, layout: Layout, names: Collection[str], where: str) -> list[str]:
    """Return the weight files of a layout whose index, if it has one, lies in the folder.

    Args:
        names: the files that there are.

    Raises:
        PrunegridError: one of them is missing.
    """
    parts = shards(folder / layout.file) if layout.sharded else [layout.file]
    absent = sorted(set(parts) - set(names))
    if absent:
        raise PrunegridError(
            f"the index names {', '.join(absent[:3])}, which is missing",
            where=where,
            remedy="copy or download the model again, or name another one",
        )
    return parts


def of_folder(folder: Path, where: str) -> set[str]:
    """Return the names of the files of a folder that make up its model.

    Raises:
        PrunegridError: there are no weights, or a part of them is missing.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    layout = choose(names, where)
    parts = weight_parts(folder, layout, names, str(folder))
    return {layout.file, *parts, *names.intersection(CONFIG_FILES)}
