"""The lines that load the folder of a step, by what it holds."""

import pytest

from prunegrid.tables.loading_snippets import CLASSES, artifact_lines

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
PARTS = ("base/config.json", "adapter/adapter_config.json")


def lines(folder, files, task="causal-lm", quantized=False):
    return artifact_lines(folder, files, task, quantized=quantized)


@pytest.mark.parametrize("task", CLASSES)
def test_a_plain_folder_is_loaded_by_transformers(task):
    found = lines("a/b", ("config.json", *TOKENIZER), task)
    assert found[1] == f"model = transformers.{CLASSES[task]}.from_pretrained('a/b')"
    assert found[2] == "tokenizer = transformers.AutoTokenizer.from_pretrained('a/b')"
    assert len(lines("a/b", ("config.json",), task)) == 2  # a model without a tokenizer


def test_quantized_weights_name_their_package_and_lie_in_base():
    found = lines("a", ("base/config.json", *TOKENIZER), quantized=True)
    assert "bitsandbytes" in found[0] and "'a/base'" in found[1] and "'a'" in found[2]


def test_an_adapter_is_laid_over_its_base():
    found = lines("a", PARTS)
    assert "'a/base'" in found[1] and "PeftModel.from_pretrained(model, 'a/adapter')" in found[2]


def test_an_adapter_under_a_mask_is_loaded_by_what_applies_the_mask():
    found = lines("a'b", (*PARTS, "masks.safetensors"))
    assert len(found) == 3 and "open_checkpoint" in found[1] and 'Path("a\'b")' in found[2]
