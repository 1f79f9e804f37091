"""The lines of Python that load a model: an exported folder, and the folder of a step."""

from __future__ import annotations

from collections.abc import Collection

CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "masked-lm": "AutoModelForMaskedLM",
    "encoder": "AutoModel",
}
_SAYS = {
    "plain": "transformers loads it; the zeros are in the weights, and stay until you train it.",
    "quantized": "transformers loads it with bitsandbytes and accelerate installed. The numbers "
    "below were computed with the dequantized weights; bitsandbytes' own kernels round otherwise.",
    "adapter": "transformers loads the base and the LoRA adapter beside it with peft installed. "
    "**Without peft it loads the base alone, without a word.** A base in NF4 or int8 needs "
    "bitsandbytes and accelerate too.",
    "summed": "The model was evaluated as a base and a LoRA adapter under the pruning mask. peft "
    "has no such mask and would fill the zeros, so this folder's model is their sum, in the "
    "precision that was evaluated: transformers alone loads it. The parts as they were trained "
    "lie in `parts/`: `base/`, `adapter/`, and `masks.safetensors` (a bit a weight, rows packed "
    "by `numpy.packbits`).",
    "packed": "The folder holds the weights without their zeros. `prunegrid unpack` writes the "
    "plain folder, bit for bit:\n\n```bash\nprunegrid unpack {place} model\n```",
}


def text(form: str, task: str, place: str, *, tokenizer: bool) -> str:
    """Return how a folder of a form is loaded, as Markdown.

    Args:
        form: see `prunegrid.models.export_forms`.
        task: of the model, as profiles name it.
        place: the repository, or the folder's name.
        tokenizer: whether it has one.
    """
    return (
        f"{_SAYS[form].format(place=place)}\n\n```python\n{code(form, task, place, tokenizer)}\n```"
    )


def code(form: str, task: str, place: str, tokenizer: bool) -> str:
    """Return the lines of Python that load a folder (see `text`)."""
    loaded = "model" if form == "packed" else place
    autos = {"model": (CLASSES[task], ', dtype="auto"')}
    if tokenizer:
        autos["tokenizer"] = ("AutoTokenizer", "")
    names = ", ".join(auto for auto, _ in autos.values())
    lines = [
        f'{name} = {auto}.from_pretrained("{loaded}"{more})' for name, (auto, more) in autos.items()
    ]
    return "\n".join([f"from transformers import {names}", "", *lines])


def artifact_lines(folder: str, files: Collection[str], task: str, *, quantized: bool) -> list[str]:
    """Return the lines that load the folder of a step, and its tokenizer where it has one.

    Args:
        folder: of a step that makes weights; in one in parts `base/` holds the model.
        files: names that its manifest records.
        task: of the model, as profiles name it.
        quantized: whether its linears are int8 or NF4.
    """
    if "masks.safetensors" in files:  # peft alone would fill the zeros
        return [
            "from pathlib import Path",
            "from prunegrid.models import open_checkpoint",
            f"model = open_checkpoint.load(Path({folder!r})).model",
        ]
    base = f"{folder}/base" if "base/config.json" in files else folder
    more = "  # its linears are quantized: bitsandbytes must be installed" if quantized else ""
    load = f"model = transformers.{CLASSES[task]}.from_pretrained({base!r})"
    if "adapter/adapter_config.json" in files:
        lay_over = f"model = peft.PeftModel.from_pretrained(model, {f'{folder}/adapter'!r})"
        return [f"import peft, transformers{more}", load, lay_over]
    lines = [f"import transformers{more}", load]
    if any(name.startswith("tokenizer") for name in files):
        lines.append(f"tokenizer = transformers.AutoTokenizer.from_pretrained({folder!r})")
    return lines
