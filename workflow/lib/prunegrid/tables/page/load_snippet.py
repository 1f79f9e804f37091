"""The lines of Python that load the weights of a step, by what its folder holds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

# The class of transformers by the end of the architecture's name; AutoModel for any other.
_CLASSES = {
    "ForCausalLM": "AutoModelForCausalLM",
    "ForConditionalGeneration": "AutoModelForSeq2SeqLM",
    "WithLMHeadModel": "AutoModelForSeq2SeqLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForMaskedLM": "AutoModelForMaskedLM",
}


def load_lines(folder: str, files: Collection[str], config: Mapping[str, Any]) -> list[str]:
    """Return the lines that load a folder's model, and its tokenizer where it has one.

    Args:
        folder: of a step that makes weights; in one in parts `base/` holds the model.
        files: names that its manifest records.
        config: of the model, as its config.json has it.
    """
    if "masks.safetensors" in files:  # peft alone would fill the zeros
        return [
            "from pathlib import Path",
            "from prunegrid.models import open_checkpoint",
            f"model = open_checkpoint.load(Path({folder!r})).model",
        ]
    architecture = (config.get("architectures") or [""])[0]
    names = (name for end, name in _CLASSES.items() if architecture.endswith(end))
    base = f"{folder}/base" if "base/config.json" in files else folder
    load = f"transformers.{next(names, 'AutoModel')}.from_pretrained({base!r})"
    packed = "  # packed: bitsandbytes must be installed" if "quantization_config" in config else ""
    if "adapter/adapter_config.json" in files:
        return [
            f"import peft, transformers{packed}",
            f"model = {load}",
            f"model = peft.PeftModel.from_pretrained(model, {f'{folder}/adapter'!r})",
        ]
    lines = [f"import transformers{packed}", f"model = {load}"]
    if any(name.startswith("tokenizer") for name in files):
        lines.append(f"tokenizer = transformers.AutoTokenizer.from_pretrained({folder!r})")
    return lines
