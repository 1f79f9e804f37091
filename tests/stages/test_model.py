"""The model stage: every form of source becomes the same kind of folder, whole or not at all."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import model_folder as folders
from prunegrid.data.sources import tiny
from prunegrid.models import weight_files
from prunegrid.stages import model as stage
from tests.helpers import hub_world

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


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return hub_world.build(tmp_path_factory.mktemp("world"), train=4, test=2, ca_test=2, texts=4)


@pytest.fixture
def run(tmp_path):
    def run(source, task="causal-lm", dtype="float32", name="out"):
        out = tmp_path / name
        out.mkdir()
        job = SimpleNamespace(where="models.x", scratch=tmp_path, device="cpu")
        settings = {"source": source, "dtype": dtype, "task": task}
        return out, stage.run(settings, {}, out, job)

    return run


@pytest.fixture
def copy(world, tmp_path):
    """A copy of a repository's folder, to be damaged."""

    def copy(repo):
        place = tmp_path / "copy"
        shutil.copytree(world / "models" / repo, place)
        return place

    return copy


def local(path):
    return {"kind": "local", "path": str(path)}


@pytest.mark.parametrize("repo", ["facebook/opt-125m", "facebook/opt-350m"])
def test_a_bin_becomes_a_plain_folder_with_the_same_weights(world, run, repo):
    folder = world / "models" / repo
    out, record = run(local(folder))
    original = torch.load(folder / "pytorch_model.bin", weights_only=True)
    written = load_file(out / "model.safetensors")
    assert not list(out.glob("*.bin"))
    assert "lm_head.weight" not in written
    for name, tensor in written.items():
        bare = name.removeprefix("model.")
        source = original[name] if name in original else original[bare]
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, source.float())
    assert len(written) == len(original) - 1
    assert record["source"]["note"] == "converted from pytorch_model.bin"
    assert record["weights"]["precision"] == "float32"
    loaded = AutoModelForCausalLM.from_pretrained(out)
    assert loaded.generation_config.eos_token_id == 2
    tokenizer = AutoTokenizer.from_pretrained(out)
    text = "The local agency shall review new roads."
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_bin_and_safetensors_give_the_same_weights(world, run):
    first = run(local(world / "models/facebook/opt-125m"), name="a")[1]["weights"]
    second = run(local(world / "models/tests/opt-safetensors"), name="b")[1]["weights"]
    assert first["sha256"] == second["sha256"]


def test_the_artifact_does_not_say_where_it_came_from(world, run, tmp_path):
    out, _ = run(local(world / "models/facebook/opt-125m"))
    for path in out.iterdir():
        assert str(world).encode() not in path.read_bytes(), path.name


def test_bfloat16_is_stored_as_asked(world, run):
    out, record = run(local(world / "models/facebook/opt-125m"), dtype="bfloat16")
    assert record["weights"]["precision"] == "bfloat16"
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {torch.bfloat16}


def test_an_encoder_without_pooler_loads_the_same_each_time(world, run):
    out, record = run(local(world / "models/FacebookAI/roberta-large"), task="encoder")
    assert "no pooler" in record["source"]["note"] and "lm_head" in record["source"]["note"]
    model, found = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert not model.pooler.dense.weight.any()
    assert len(model.encoder.layer) == 24
    assert record["weights"]["sparsity_prunable"] == 0


@pytest.mark.parametrize(("config", "task"), [(LLAMA, "causal-lm"), (OPT, "causal-lm")])
def test_random_models_are_the_seeds_alone(run, config, task):
    source = {"kind": "random", "config": config, "seed": 3}
    out, first = run(source, name="a")
    torch.manual_seed(99)
    _, again = run(source, name="b")
    _, other = run(source | {"seed": 4}, name="c")
    assert first == again
    assert first["weights"]["sha256"] != other["weights"]["sha256"]
    vectors = [t for t in load_file(out / "model.safetensors").values() if t.dim() == 1]
    assert vectors and all(t.std() > 0 for t in vectors)
    tokenizer = AutoTokenizer.from_pretrained(out)
    for text in ("Plain English, twice  spaced.\n\nNew ¶ — naïve 北京", " leading and trailing "):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3
    assert len(tokenizer) <= config["vocab_size"]


def test_a_random_encoder_has_its_special_tokens(run):
    out, _ = run({"kind": "random", "config": BERT, "seed": 0}, task="encoder")
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("ab")["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_random_configs_that_are_wrong_are_errors(run):
    with pytest.raises(PrunegridError, match="no model can be made"):
        run({"kind": "random", "config": LLAMA | {"model_type": "lama"}, "seed": 0}, name="a")
    with pytest.raises(PrunegridError, match="at least 260"):
        run({"kind": "random", "config": LLAMA | {"vocab_size": 100}, "seed": 0}, name="b")


def test_tied_weights_that_differ_are_refused(copy, run):
    place = copy("facebook/opt-125m")
    tensors = torch.load(place / "pytorch_model.bin", weights_only=True)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    torch.save(tensors, place / "pytorch_model.bin")
    with pytest.raises(PrunegridError, match="ties lm_head.weight to .*embed_tokens.weight"):
        run(local(place), name="a")
    del tensors["lm_head.weight"]
    torch.save(tensors, place / "pytorch_model.bin")
    assert run(local(place), name="b")[1]["weights"]["parameters"] > 0


def test_missing_and_left_over_tensors_are_refused(copy, run):
    place = copy("tests/opt-safetensors")
    whole = load_file(place / "model.safetensors")
    name = "model.decoder.layers.0.fc1.weight"
    save_file({n: t for n, t in whole.items() if n != name}, place / "model.safetensors")
    with pytest.raises(PrunegridError, match="1 tensors are missing: .*fc1.weight"):
        run(local(place), name="a")
    save_file(whole | {"model.extra": torch.ones(2)}, place / "model.safetensors")
    with pytest.raises(PrunegridError, match="left over"):
        run(local(place), name="b")
    save_file(whole | {name: torch.ones(3, 3)}, place / "model.safetensors")
    with pytest.raises(PrunegridError, match="fit the config|another shape"):
        run(local(place), name="c")


def test_the_masks_that_older_files_of_gpt2_hold_are_left_out(run, tmp_path):
    config = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 264}
    out, made = run({"kind": "random", "config": config, "seed": 0}, name="a")
    whole = load_file(out / "model.safetensors")
    for block in ("transformer.h.0.attn", "transformer.h.1.attn"):
        whole |= {f"{block}.masked_bias": torch.tensor(-1e4)}
        whole |= {f"{block}.bias": torch.ones(1, 1, 1024, 1024, dtype=torch.bool).tril()}
    save_file(whole, out / "model.safetensors", metadata={"format": "pt"})
    again, record = run(local(out), name="b")
    assert record["source"]["note"] == "left out: 2 times masked_bias, a constant"
    assert record["weights"] == made["weights"]
    assert not any("masked" in name for name in load_file(again / "model.safetensors"))
    save_file(whole | {"transformer.h.0.attn.masked": torch.ones(2)}, out / "model.safetensors")
    with pytest.raises(PrunegridError, match="1 tensors are left over"):
        run(local(out), name="c")


def test_nan_weights_are_named(copy, run):
    place = copy("tests/opt-safetensors")
    whole = load_file(place / "model.safetensors")
    whole["model.decoder.layers.1.fc2.bias"][3] = float("nan")
    save_file(whole, place / "model.safetensors")
    with pytest.raises(PrunegridError, match="layers.1.fc2.bias holds NaN"):
        run(local(place))


@pytest.mark.parametrize(
    ("repo", "name"),
    [("tests/opt-safetensors", "model.safetensors"), ("facebook/opt-125m", "pytorch_model.bin")],
)
def test_a_truncated_file_is_named_with_a_remedy(copy, run, repo, name):
    place = copy(repo)
    path = place / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(PrunegridError, match=f"{name}.*delete it and download"):
        run(local(place))


def test_folders_that_are_no_model_of_the_task(copy, run, world):
    place = copy("tests/opt-safetensors")
    with pytest.raises(PrunegridError, match="expected a causal language model"):
        run(local(world / "models/FacebookAI/roberta-large"), name="a")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"quantization_config": {}}))
    with pytest.raises(PrunegridError, match="already quantized"):
        run(local(place), name="b")
    custom = {"model_type": "mystery", "auto_map": {"AutoConfig": "code.Config"}}
    (place / "config.json").write_text(json.dumps(custom))
    (place / "code.py").write_text("raise SystemExit('remote code was run')")
    with pytest.raises(PrunegridError, match="their own code are not run"):
        run(local(place), name="c")
    (place / "config.json").unlink()
    with pytest.raises(PrunegridError, match="no config.json"):
        run(local(place), name="d")
    (place / "model.safetensors").unlink()
    with pytest.raises(PrunegridError, match="no weights found"):
        run(local(place), name="e")
    with pytest.raises(PrunegridError, match="does not exist"):
        run(local(place / "nowhere"), name="f")


def test_an_index_must_stay_in_its_folder(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(PrunegridError, match="files beside the index"):
        weight_files.shards(index)


def test_gguf_is_dequantized_into_a_plain_model(tmp_path, run):
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    model, _ = tiny.build(
        {"config": LLAMA | {"tie_word_embeddings": True, "head_dim": 8}, "seed": 1},
        "causal-lm",
        torch.float32,
        "here",
    )
    write_gguf(gguf, path, model)
    out, record = run(local(path))
    assert record["source"]["note"] == "Q8_0 file, dequantized"
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
        run(local(path), name="b")
    path.write_bytes(b"no gguf at all")
    with pytest.raises(PrunegridError, match="not readable as GGUF"):
        run(local(path), name="c")


def write_gguf(gguf, path, model):
    """Write a small Llama as llama.cpp does, its matrices as Q8_0."""
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
    letters = sorted(set(tiny.byte_tokenizer(None, False, False).get_vocab()) - set(tiny.SPECIALS))
    tokens = [*tiny.SPECIALS, *letters, "ab"]
    tokens += [f"<unused{i}>" for i in range(config.vocab_size - len(tokens))]
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 4 + [1] * (len(tokens) - 4))
    writer.add_token_merges(["a b"])
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


GPT2 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 16}
GPT2 |= {"n_embd": 8, "n_head": 2, "n_layer": 1}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        *((text, "config.json cannot be used") for text in ("5", "[]", "null", "[" * 100_000)),
        ('{"model_type": []}', "config.json cannot be used"),
        ("{}", "config.json cannot be used"),
        *((value, "architectures is") for value in ({"architectures": 5}, {"architectures": [5]})),
        *(
            (value, "config.json")
            for value in (
                *({"n_head": 0}, {"n_embd": "abc"}, {"n_layer": None}, {"n_layer": [1]}),
                *({"activation_function": "nope"}, {"vocab_size": -1}, {"torch_dtype": "nope"}),
            )
        ),
        ({"n_layer": -1}, "missing|left over|no model|cannot be used"),
        *(({"n_layer": 10**n}, "the weights are 1 tensors|cannot be used") for n in (7, 12)),
        ({"vocab_size": 10**13}, "."),
    ],
)
def test_odd_configs_are_told_in_one_sentence(tmp_path, monkeypatch, config, words):
    """However many layers a config asks for, few modules are made of it."""
    modules, init = [], torch.nn.Module.__init__
    monkeypatch.setattr(
        torch.nn.Module, "__init__", lambda *a, **k: (modules.append(1), init(*a, **k))[1]
    )
    text = config if isinstance(config, str) else json.dumps(GPT2 | config)
    (tmp_path / "config.json").write_text(text)
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(PrunegridError, match=words) as caught:
        names = ["config.json", "model.safetensors"]
        folders.load(tmp_path, names, "causal-lm", torch.float32, "here", tokenizer=False)
    assert str(caught.value).startswith("here") and "\n" not in str(caught.value)
    assert len(modules) < 100


def test_odd_generation_settings_are_told_in_one_sentence(copy, run):
    place = copy("tests/opt-safetensors")
    for number, text in enumerate(("5", "[]", '"x"', "[" * 100_000)):
        (place / "generation_config.json").write_text(text)
        with pytest.raises(PrunegridError, match="generation_config.json cannot be used"):
            run(local(place), name=f"out{number}")


def test_the_config_of_an_unknown_folder_is_read_only_once_it_is_json(tmp_path):
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(PrunegridError, match="config.json cannot be used"):
        folders.read_config(tmp_path, "causal-lm", "here")
