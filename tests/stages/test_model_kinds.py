"""The model stage on architectures whose names, files and parts are unlike most."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from prunegrid.common.errors import PrunegridError
from prunegrid.data.prompts import pad_of
from prunegrid.data.sources.tiny import byte_tokenizer
from prunegrid.models import checkpoint, open_checkpoint

pytestmark = pytest.mark.model

SMALL = {
    **{"vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "max_position_embeddings": 64},
    **{"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
}
GQA = SMALL | {"num_key_value_heads": 2}
N_EMBD = {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
BART = {
    **{"vocab_size": 260, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64},
    **{"decoder_ffn_dim": 64, "max_position_embeddings": 64, "decoder_start_token_id": 0},
    **{"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2},
}
AUTO = {
    "causal-lm": "AutoModelForCausalLM",
    "seq2seq-lm": "AutoModelForSeq2SeqLM",
    "masked-lm": "AutoModelForMaskedLM",
}


def hub(folder, kind, config, task="causal-lm", auto=None):
    """Write the folder of a small model as plain transformers saves it; return the model."""
    torch.manual_seed(0)
    made = AutoConfig.for_model(kind, **config)
    model = getattr(transformers, auto or AUTO[task]).from_config(made).eval()
    model.save_pretrained(folder)
    byte_tokenizer(max_length=64, add_bos=False, encoder=task == "masked-lm").save_pretrained(
        folder
    )
    return model


def local(folder):
    return {"kind": "local", "path": str(folder)}


@pytest.mark.parametrize(
    "kind,config,task",
    [
        ("marian", BART | {"decoder_vocab_size": 260}, "seq2seq-lm"),
        ("fsmt", BART | {"langs": ["a", "b"], "src_vocab_size": 260, "tgt_vocab_size": 260},
         "seq2seq-lm"),
        ("bert-generation", SMALL, "causal-lm"),
        ("flaubert", {"n_words": 260, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "pad_index": 1},
         "masked-lm"),
        ("ctrl", N_EMBD | {"dff": 64}, "causal-lm"),
    ],
)  # fmt: skip
def test_a_class_that_transformers_lists_is_of_the_task(tmp_path, run_model, kind, config, task):
    made = hub(tmp_path / "hub", kind, config, task)
    out, record = run_model(local(tmp_path / "hub"), task=task)
    again = checkpoint.read_model(out)
    assert type(again) is type(made)
    wanted = made.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in again.state_dict().items())
    assert checkpoint.file_weights_sha256(out) == record["weights"]["sha256"]
    random = {"kind": "random", "config": {"model_type": kind, **config}, "seed": 0}
    other, _ = run_model(random, task=task, name="random")
    assert type(checkpoint.read_model(other)) is type(made)


@pytest.mark.parametrize(
    "kind,task,asked,fits",
    [
        ("marian", "seq2seq-lm", "causal-lm", "seq2seq-lm"),
        ("bart", "seq2seq-lm", "masked-lm", "seq2seq-lm"),
        ("gpt2", "causal-lm", "seq2seq-lm", "causal-lm"),
        ("bert", "masked-lm", "causal-lm", "masked-lm"),
    ],
)
def test_another_task_is_refused_with_the_one_that_fits(
    tmp_path, run_model, kind, task, asked, fits
):
    config = {"marian": BART, "bart": BART, "gpt2": N_EMBD, "bert": SMALL}[kind]
    hub(tmp_path / "hub", kind, config, task)
    with pytest.raises(PrunegridError, match=f"say `task: {fits}"):
        run_model(local(tmp_path / "hub"), task=asked)


def test_a_class_that_is_no_longer_there_is_known_by_its_ending(tmp_path, run_model):
    hub(tmp_path / "hub", "llama", GQA)
    path = tmp_path / "hub/config.json"
    config = json.loads(path.read_text()) | {"architectures": ["LLaMAForCausalLM"]}
    path.write_text(json.dumps(config))
    assert run_model(local(tmp_path / "hub"))[1]["weights"]["parameters"] > 0


MASK = torch.ones(64, 64, dtype=torch.uint8).tril()[None, None]
FREQUENCIES = 1.0 / 10000 ** (torch.arange(0, 8, 2) / 8)
BUFFERS = {
    "gpt_neox": (SMALL, "gpt_neox.layers.1.attention.bias", MASK.bool()),
    "gpt_neo": (
        {"vocab_size": 260, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
         "attention_types": [[["global"], 2]], "max_position_embeddings": 64},
        "transformer.h.0.attn.attention.bias", MASK,
    ),
    "llama": (GQA, "model.layers.0.self_attn.rotary_emb.inv_freq", FREQUENCIES.half()),
    "gpt2": (N_EMBD, "transformer.h.1.attn.masked_bias", torch.tensor(-1e9)),
    "bert-generation": (SMALL, "bert.embeddings.position_ids", torch.arange(64)[None]),
}  # fmt: skip


def with_tensor(folder, name, tensor):
    whole = load_file(folder / "model.safetensors") | {name: tensor}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("kind", BUFFERS)
def test_what_older_files_saved_and_the_model_computes_is_left_out(tmp_path, run_model, kind):
    config, name, tensor = BUFFERS[kind]
    hub(tmp_path / "hub", kind, config)
    _, plain = run_model(local(tmp_path / "hub"), name="plain")
    with_tensor(tmp_path / "hub", name, tensor)
    _, record = run_model(local(tmp_path / "hub"), name="old")
    assert record["weights"] == plain["weights"]


@pytest.mark.parametrize(
    "name,tensor",
    [
        ("transformer.h.0.attn.own_bias", torch.ones(2)),
        ("transformer.h.0.attn.extra.bias", torch.ones(1, 1, 64, 64)),
        ("transformer.position_ids", torch.arange(64)[None] + 1),
        ("transformer.h.0.attn.rotary.inv_freq", torch.ones(4)),
    ],
)
def test_what_only_looks_like_a_constant_is_left_over(tmp_path, run_model, name, tensor):
    hub(tmp_path / "hub", "gpt2", N_EMBD)
    with_tensor(tmp_path / "hub", name, tensor)
    with pytest.raises(PrunegridError, match="1 tensors are left over"):
        run_model(local(tmp_path / "hub"))


TOWER = {
    **{"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "image_size": 8},
    **{"num_attention_heads": 4, "patch_size": 4, "projection_dim": 16},
}
PARTS = {
    "llava": {"text_config": {"model_type": "mistral", **GQA},
              "vision_config": {"model_type": "clip_vision_model", **TOWER}},
    "gemma3": {"text_config": GQA | {"head_dim": 8},
               "vision_config": {"model_type": "siglip_vision_model", **TOWER}},
    "mistral3": {"text_config": {"model_type": "mistral", **GQA},
                 "vision_config": {"model_type": "pixtral", **TOWER}},
}  # fmt: skip


@pytest.mark.parametrize("kind", PARTS)
def test_of_a_model_of_images_too_the_text_part_is_taken(tmp_path, run_model, kind):
    auto = "AutoModelForImageTextToText"
    whole = hub(tmp_path / "hub", kind, PARTS[kind], auto=auto)
    out, record = run_model(local(tmp_path / "hub"))
    assert "text part alone" in record["source"]["note"]
    text = checkpoint.read_model(out)
    ids = torch.tensor([[9, 30, 200, 31, 7]])
    with torch.no_grad():
        assert torch.allclose(text(ids).logits, whole(input_ids=ids).logits, atol=1e-5)
    assert not any("vision" in name for name in text.state_dict())


def test_a_text_part_that_computes_something_else_is_refused(tmp_path, run_model):
    """Aya's whole model does not scale its logits, and its text part does."""
    config = {
        "text_config": {"model_type": "cohere2", **GQA, "head_dim": 8, "logit_scale": 0.25},
        "vision_config": {"model_type": "siglip_vision_model", **TOWER},
    }
    hub(tmp_path / "hub", "aya_vision", config, auto="AutoModelForImageTextToText")
    with pytest.raises(PrunegridError, match="text part computes other logits"):
        run_model(local(tmp_path / "hub"))


def test_tokens_beyond_the_embedding_are_noted_and_only_texts_with_them_refused(
    tmp_path, run_model
):
    hub(tmp_path / "hub", "qwen3", GQA | {"head_dim": 8})
    tokenizer = byte_tokenizer(max_length=64, add_bos=False, encoder=False)
    tokenizer.add_special_tokens({"pad_token": "<fill>"})
    tokenizer.add_tokens(["<think>"])
    tokenizer.save_pretrained(tmp_path / "hub")
    out, record = run_model(local(tmp_path / "hub"))
    note = record["source"]["note"]
    assert "2 tokens of the tokenizer" in note and "'<fill>' (260)" in note
    loaded = open_checkpoint.load(out, attest=False)
    assert loaded.tokenizer("any other text")["input_ids"]
    assert pad_of(loaded) < 260
    with pytest.raises(PrunegridError, match="'<think>' .261."):
        loaded.tokenizer("a <think> b")


def test_an_adapter_is_refused_with_the_way_to_merge_it(tmp_path, run_model):
    from peft import LoraConfig, get_peft_model

    model = hub(tmp_path / "hub", "llama", GQA)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path / "adapter")
    for beside in (False, True):  # alone, and in a folder with its whole base
        if beside:
            for path in (tmp_path / "hub").iterdir():
                (tmp_path / "adapter" / path.name).write_bytes(path.read_bytes())
        with pytest.raises(PrunegridError, match="LoRA adapter.*merge_and_unload"):
            run_model(local(tmp_path / "adapter"), name=f"out{beside}")


@pytest.mark.parametrize("stored", ["float8_e4m3fn", "float8_e5m2", "int8", "uint8"])
def test_coded_weights_are_refused_with_their_name(tmp_path, run_model, stored):
    hub(tmp_path / "hub", "llama", GQA)
    name = "model.layers.1.mlp.up_proj.weight"
    whole = load_file(tmp_path / "hub/model.safetensors")
    coded = {name: whole[name].to(getattr(torch, stored)), f"{name}_scale_inv": torch.ones(1, 1)}
    save_file(whole | coded, tmp_path / "hub/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PrunegridError, match=f"up_proj.weight is stored as {stored}"):
        run_model(local(tmp_path / "hub"))
