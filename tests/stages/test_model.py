"""The model stage: every form of source becomes the same kind of folder, whole or not at all."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from prunegrid.artifacts import token_probe
from prunegrid.common import model_files
from prunegrid.common.errors import PrunegridError
from prunegrid.data.sources import model_folder as folders
from tests.helpers import hub_world

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return hub_world.build(tmp_path_factory.mktemp("world"), train=4, test=2, ca_test=2, texts=4)


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
def test_a_bin_becomes_a_plain_folder_with_the_same_weights(world, run_model, repo):
    folder = world / "models" / repo
    out, record = run_model(local(folder))
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
    assert record[token_probe.RECORDED] == token_probe.ids_sha256(tokenizer)


def test_bin_and_safetensors_give_the_same_weights(world, run_model):
    first = run_model(local(world / "models/facebook/opt-125m"), name="a")[1]["weights"]
    second = run_model(local(world / "models/tests/opt-safetensors"), name="b")[1]["weights"]
    assert first["sha256"] == second["sha256"]


def test_the_artifact_does_not_say_where_it_came_from(world, run_model, tmp_path):
    out, _ = run_model(local(world / "models/facebook/opt-125m"))
    for path in out.iterdir():
        assert str(world).encode() not in path.read_bytes(), path.name


def test_bfloat16_is_stored_as_asked(world, run_model):
    out, record = run_model(local(world / "models/facebook/opt-125m"), dtype="bfloat16")
    assert record["weights"]["precision"] == "bfloat16"
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {torch.bfloat16}


def test_an_encoder_without_pooler_loads_the_same_each_time(world, run_model):
    out, record = run_model(local(world / "models/FacebookAI/roberta-large"), task="encoder")
    assert "no pooler" in record["source"]["note"] and "lm_head" in record["source"]["note"]
    model, found = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    assert not model.pooler.dense.weight.any()
    assert len(model.encoder.layer) == 24
    assert record["weights"]["sparsity_prunable"] == 0


def test_tied_weights_that_differ_are_refused(copy, run_model):
    place = copy("facebook/opt-125m")
    tensors = torch.load(place / "pytorch_model.bin", weights_only=True)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    torch.save(tensors, place / "pytorch_model.bin")
    with pytest.raises(PrunegridError, match="ties lm_head.weight to .*embed_tokens.weight"):
        run_model(local(place), name="a")
    del tensors["lm_head.weight"]
    torch.save(tensors, place / "pytorch_model.bin")
    assert run_model(local(place), name="b")[1]["weights"]["parameters"] > 0


def test_missing_and_left_over_tensors_are_refused(copy, run_model):
    place = copy("tests/opt-safetensors")
    whole = load_file(place / "model.safetensors")
    name = "model.decoder.layers.0.fc1.weight"
    save_file({n: t for n, t in whole.items() if n != name}, place / "model.safetensors")
    with pytest.raises(PrunegridError, match="1 tensors are missing: .*fc1.weight"):
        run_model(local(place), name="a")
    save_file(whole | {"model.extra": torch.ones(2)}, place / "model.safetensors")
    with pytest.raises(PrunegridError, match="left over"):
        run_model(local(place), name="b")
    save_file(whole | {name: torch.ones(3, 3)}, place / "model.safetensors")
    with pytest.raises(PrunegridError, match="fit the config|another shape"):
        run_model(local(place), name="c")


def test_the_masks_that_older_files_of_gpt2_hold_are_left_out(run_model, tmp_path):
    config = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 264}
    out, made = run_model({"kind": "random", "config": config, "seed": 0}, name="a")
    whole = load_file(out / "model.safetensors")
    for block in ("transformer.h.0.attn", "transformer.h.1.attn"):
        whole |= {f"{block}.masked_bias": torch.tensor(-1e4)}
        whole |= {f"{block}.bias": torch.ones(1, 1, 1024, 1024, dtype=torch.bool).tril()}
    save_file(whole, out / "model.safetensors", metadata={"format": "pt"})
    again, record = run_model(local(out), name="b")
    assert record["source"]["note"] == "left out: 2 times masked_bias, a constant"
    assert record["weights"] == made["weights"]
    assert not any("masked" in name for name in load_file(again / "model.safetensors"))
    save_file(whole | {"transformer.h.0.attn.masked": torch.ones(2)}, out / "model.safetensors")
    with pytest.raises(PrunegridError, match="1 tensors are left over"):
        run_model(local(out), name="c")


def test_nan_weights_are_named(copy, run_model):
    place = copy("tests/opt-safetensors")
    whole = load_file(place / "model.safetensors")
    whole["model.decoder.layers.1.fc2.bias"][3] = float("nan")
    save_file(whole, place / "model.safetensors")
    with pytest.raises(PrunegridError, match="layers.1.fc2.bias holds NaN"):
        run_model(local(place))


@pytest.mark.parametrize(
    ("repo", "name"),
    [("tests/opt-safetensors", "model.safetensors"), ("facebook/opt-125m", "pytorch_model.bin")],
)
def test_a_truncated_file_is_named_with_a_remedy(copy, run_model, repo, name):
    place = copy(repo)
    path = place / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(PrunegridError, match=f"{name}.*delete it"):
        run_model(local(place))


def test_folders_that_are_no_model_of_the_task(copy, run_model, world):
    place = copy("tests/opt-safetensors")
    with pytest.raises(PrunegridError, match="expected a causal language model"):
        run_model(local(world / "models/FacebookAI/roberta-large"), name="a")
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | {"quantization_config": {}}))
    with pytest.raises(PrunegridError, match="already quantized"):
        run_model(local(place), name="b")
    custom = {"model_type": "mystery", "auto_map": {"AutoConfig": "code.Config"}}
    (place / "config.json").write_text(json.dumps(custom))
    (place / "code.py").write_text("raise SystemExit('remote code was run')")
    with pytest.raises(PrunegridError, match="their own code are not run"):
        run_model(local(place), name="c")
    (place / "config.json").unlink()
    with pytest.raises(PrunegridError, match="no config.json"):
        run_model(local(place), name="d")
    (place / "model.safetensors").unlink()
    with pytest.raises(PrunegridError, match="no weights found"):
        run_model(local(place), name="e")
    with pytest.raises(PrunegridError, match="does not exist"):
        run_model(local(place / "nowhere"), name="f")


def test_an_index_must_stay_in_its_folder(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(PrunegridError, match="files beside the index"):
        model_files.shards(index)


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


def test_odd_generation_settings_are_told_in_one_sentence(copy, run_model):
    place = copy("tests/opt-safetensors")
    for number, text in enumerate(("5", "[]", '"x"', "[" * 100_000)):
        (place / "generation_config.json").write_text(text)
        with pytest.raises(PrunegridError, match="generation_config.json cannot be used"):
            run_model(local(place), name=f"out{number}")


def test_the_config_of_an_unknown_folder_is_read_only_once_it_is_json(tmp_path):
    (tmp_path / "config.json").write_text("{broken")
    with pytest.raises(PrunegridError, match="config.json cannot be used"):
        folders.read_config(tmp_path, "causal-lm", "here")
