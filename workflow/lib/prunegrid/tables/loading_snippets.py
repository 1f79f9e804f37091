"""The lines of Python that load an exported folder, for its model card."""

from __future__ import annotations

CLASSES = {
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "masked-lm": "AutoModelForMaskedLM",
    "encoder": "AutoModel",
}
_LINES = """\
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained("{place}", dtype="auto")
tokenizer = AutoTokenizer.from_pretrained("{place}")"""
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


def text(form: str, task: str, place: str) -> str:
    """Return how a folder of a form is loaded, as Markdown.

    Args:
        form: see `prunegrid.models.export_forms`.
        task: of the model, as profiles name it.
        place: the repository, or a word for the folder.
    """
    loaded = "model" if form == "packed" else place
    lines = _LINES.format(auto=CLASSES[task], place=loaded)
    return f"{_SAYS[form].format(place=place)}\n\n```python\n{lines}\n```"
