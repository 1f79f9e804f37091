"""The lines of Python that load an exported folder, for its model card."""

from __future__ import annotations

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
