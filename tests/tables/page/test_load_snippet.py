"""The lines that load a folder, by what it holds."""

import pytest

from prunegrid.tables.page.load_snippet import load_lines

TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
PARTS = ("base/config.json", "adapter/adapter_config.json")


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        ("LlamaForCausalLM", "AutoModelForCausalLM"),
        ("GPT2LMHeadModel", "AutoModelForCausalLM"),
        ("BartForConditionalGeneration", "AutoModelForSeq2SeqLM"),
        ("T5WithLMHeadModel", "AutoModelForSeq2SeqLM"),
        ("BertForMaskedLM", "AutoModelForMaskedLM"),
        ("BertModel", "AutoModel"),
    ],
)
def test_a_plain_folder_is_loaded_by_transformers(architecture, name):
    files, config = ("config.json", *TOKENIZER), {"architectures": [architecture]}
    lines = load_lines("a/b", files, config)
    assert lines[1] == f"model = transformers.{name}.from_pretrained('a/b')"
    assert lines[2] == "tokenizer = transformers.AutoTokenizer.from_pretrained('a/b')"
    assert len(load_lines("a/b", ("config.json",), config)) == 2  # a model without a tokenizer


def test_packed_weights_name_their_package_and_lie_in_base():
    config = {"architectures": ["LlamaForCausalLM"], "quantization_config": {}}
    lines = load_lines("a", ("base/config.json", *TOKENIZER), config)
    assert "bitsandbytes" in lines[0] and "'a/base'" in lines[1] and "'a'" in lines[2]


def test_an_adapter_is_laid_over_its_base():
    lines = load_lines("a", PARTS, {"architectures": ["LlamaForCausalLM"]})
    assert "'a/base'" in lines[1] and "PeftModel.from_pretrained(model, 'a/adapter')" in lines[2]


def test_an_adapter_under_a_mask_is_loaded_by_what_applies_the_mask():
    lines = load_lines("a'b", (*PARTS, "masks.safetensors"), {})
    assert len(lines) == 3 and "open_checkpoint" in lines[1] and 'Path("a\'b")' in lines[2]
