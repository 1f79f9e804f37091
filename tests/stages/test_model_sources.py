"""The model stage of sources that hold no safetensors: random weights and GGUF files."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import tiny

pytestmark = pytest.mark.model

LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 264,
    "max_position_embeddings": 128,
}
OPT = {
    "model_type": "opt",
    "hidden_size": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "word_embed_proj_dim": 16,
    "do_layer_norm_before": False,
    "vocab_size": 264,
    "max_position_embeddings": 128,
}
BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 264,
}


@pytest.mark.parametrize(("config", "task"), [(LLAMA, "causal-lm"), (OPT, "causal-lm")])
def test_random_models_are_the_seeds_alone(run_model, config, task):
    source = {"kind": "random", "config": config, "seed": 3}
    out, first = run_model(source, name="a")
    torch.manual_seed(99)
    _, again = run_model(source, name="b")
    _, other = run_model(source | {"seed": 4}, name="c")
    assert first == again
    assert first["weights"]["sha256"] != other["weights"]["sha256"]
    vectors = [t for t in load_file(out / "model.safetensors").values() if t.dim() == 1]
    assert vectors and all(t.std() > 0 for t in vectors)
    tokenizer = AutoTokenizer.from_pretrained(out)
    for text in ("Plain English, twice  spaced.\n\nNew ¶ — naïve 北京", " leading and trailing "):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3
    assert len(tokenizer) <= config["vocab_size"]


def test_a_random_encoder_has_its_special_tokens(run_model):
    out, _ = run_model({"kind": "random", "config": BERT, "seed": 0}, task="encoder")
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("ab")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_random_configs_that_are_wrong_are_errors(run_model):
    with pytest.raises(PrunegridError, match="no model can be made"):
        run_model({"kind": "random", "config": LLAMA | {"model_type": "lama"}, "seed": 0}, name="a")
    with pytest.raises(PrunegridError, match="at least 260"):
        run_model({"kind": "random", "config": LLAMA | {"vocab_size": 100}, "seed": 0}, name="b")


def test_gguf_is_dequantized_into_a_plain_model(tmp_path, run_model):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    model, _ = tiny.build(
        {
            "config": LLAMA | {"tie_word_embeddings": True, "head_dim": 8, "vocab_size": 288},
            "seed": 1,
        },
        "causal-lm",
        torch.float32,
        "here",
    )
    write_gguf(gguf, path, model)
    out, record = run_model({"kind": "local", "path": str(path)})
    assert record["source"]["note"] == (
        "Q8_0 file, dequantized; tokenizer rebuilt from its vocabulary and the splits of gpt-2"
    )
    assert list(record["source"]["files"]) == ["small.gguf"]
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert getattr(loaded, "hf_quantizer", None) is None
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    loaded.half().save_pretrained(tmp_path / "again")  # what a GGUF quantizer refuses
    name = "model.layers.1.mlp.down_proj.weight"
    error = (loaded.float().get_parameter(name) - model.get_parameter(name)).abs().max()
    assert 0 < error < 0.01
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(PrunegridError, match="not readable as GGUF"):
        run_model({"kind": "local", "path": str(path)}, name="b")
    path.write_bytes(b"no gguf at all")
    with pytest.raises(PrunegridError, match="not readable as GGUF"):
        run_model({"kind": "local", "path": str(path)}, name="c")


def splits(*rules, composed=False, digits=False, by_words=False):
    """Return a tokenizer's own rules: NFC, patterns, single digits, and GPT-2's pattern or none."""
    steps = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in rules]
    steps += [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not rules))
    return normalizers.NFC() if composed else None, pre_tokenizers.Sequence(steps), by_words


CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")
# The rules of models as their tokenizer.json has them, by the name in their GGUF files.
OWN = {
    "gpt-2": splits(),
    "olmo": splits(composed=True),
    "smollm": splits(digits=True),
    "starcoder": splits(digits=True),
    "command-r": splits(digits=True, composed=True),
    "deepseek-coder": splits(*CODER, digits=True),
    "qwen2": splits(PRETOKENIZE_REGEX, composed=True),
    "llama-bpe": splits(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        by_words=True,
    ),
}
MERGES = ["a b", "Ġ 1", "1 2", "Ġ Ġ", "Ġ a", "Ã ©", "' l", "'l l"]
TEXTS = (
    *("a 12  1", "ab  12\n\n 1a", "e\u0301 \u00e9", "it'll  ab12", "1234567 12.5", "whole ab"),
    *("日本 12", "a\r\n12 \t", "x  ", " 1 1 12", "²12 ٣12"),
)


@pytest.mark.parametrize("name", OWN)
def test_a_gguf_splits_texts_as_the_model_whose_name_it_has(tmp_path, run_model, name):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    config = LLAMA | {"tie_word_embeddings": True, "head_dim": 8, "vocab_size": 288}
    model, _ = tiny.build({"config": config, "seed": 1}, "causal-lm", torch.float32, "here")
    tokens = write_gguf(gguf, path, model, name)
    out, record = run_model({"kind": "local", "path": str(path)})
    assert f"the splits of {name}" in record["source"]["note"]
    normalizer, pre_tokenizer, by_words = OWN[name]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in MERGES]
    own = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=by_words))
    own.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        own.normalizer = normalizer
    tokenizer = AutoTokenizer.from_pretrained(out)
    for text in TEXTS:
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(found) == own.encode(text).tokens, text
    begins = tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    assert begins == (name == "llama-bpe")  # whose files do not say that texts begin with BOS


@pytest.mark.parametrize("name", ["default", "superbpe", "smolm", None])
def test_a_gguf_of_unknown_splits_is_refused(tmp_path, run_model, name):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    config = LLAMA | {"tie_word_embeddings": True, "head_dim": 8, "vocab_size": 288}
    model, _ = tiny.build({"config": config, "seed": 1}, "causal-lm", torch.float32, "here")
    write_gguf(gguf, path, model, name)
    with pytest.raises(PrunegridError, match=f"pre-tokenizer.*{name or 'missing'}.*own folder"):
        run_model({"kind": "local", "path": str(path)})


def write_gguf(gguf, path, model, pre="gpt-2"):
    """Write a small Llama as llama.cpp does, its matrices as Q8_0; return its tokens."""
    config = model.config
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    letters = sorted(set(tiny.byte_tokenizer(None, False, False).get_vocab()) - set(tiny.SPECIALS))
    merged = [merge.replace(" ", "") for merge in MERGES]
    tokens = [*tiny.SPECIALS, *letters, *merged, "whole", "Ġwhole"]
    tokens += [f"<unused{i}>" for i in range(config.vocab_size - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 4 + [1] * (len(tokens) - 4))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(2)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        parts = name.split(".")
        inner = ".".join(parts[3:-1])
        if name.startswith("model.layers."):
            target = f"blk.{parts[2]}.{names[inner]}.weight"
        else:
            target = {"model.norm.weight": "output_norm.weight"}.get(name, "token_embd.weight")
        array = tensor.numpy()
        if array.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(target, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tokens
