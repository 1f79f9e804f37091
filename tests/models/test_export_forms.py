"""Every form of weights, exported, and loaded in a process that cannot import prunegrid."""

from __future__ import annotations

import shutil

import numpy
import pytest
import torch
from safetensors.torch import load_file

from prunegrid.common import file_io
from prunegrid.models import checkpoint, export_forms, exported_folder
from prunegrid.tables import loading_snippets
from tests.helpers import export_world

pytestmark = pytest.mark.model

FORMS = {
    **dict.fromkeys(("decoder", "encoder-decoder", "structured", "experts"), "plain"),
    **dict.fromkeys(("nf4", "int8"), "quantized"),
    **dict.fromkeys(("adapter", "nf4-adapter"), "adapter"),
    **dict.fromkeys(("masked", "bfloat16-masked", "nf4-masked"), "summed"),
}
# The largest difference of logits, as a share of the largest. bitsandbytes' own products round:
# weights and inputs to 8 bits (bfloat16's, int8's).
CLOSE = {"nf4": 0.05, "nf4-adapter": 0.05, "int8": 0.1}


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """An artifact of each form."""
    place = tmp_path_factory.mktemp("artifacts")
    return {name: export_world.artifact(place / name, name) for name in FORMS}


@pytest.fixture(scope="module")
def exported(artifacts, tmp_path_factory):
    """{form: (folder, how its files make up the model)}."""
    place, found = tmp_path_factory.mktemp("exported"), {}
    for name, artifact in artifacts.items():
        (place / name).mkdir()
        found[name] = place / name, export_forms.write(artifact, place / name, "float32")
        exported_folder.seal(place / name, found[name][1] | {"row": {}})
    return found


@pytest.fixture(scope="module")
def logits(exported, tmp_path_factory):
    """The logits of every folder, computed without prunegrid."""
    folders, alone = {name: folder for name, (folder, _) in exported.items()}, "base"
    place = tmp_path_factory.mktemp("alone")
    folders[alone] = place / alone
    ignore = shutil.ignore_patterns("adapter*")
    shutil.copytree(folders["adapter"], folders[alone], ignore=ignore)
    return export_world.logits_without_prunegrid(folders, place)


@pytest.mark.parametrize("name", FORMS)
def test_without_prunegrid_a_folder_computes_what_was_evaluated(artifacts, logits, name):
    own = export_world.own_logits(artifacts[name])
    apart = numpy.abs(logits[name] - own).max() / numpy.abs(own).max()
    assert apart <= CLOSE.get(name, 1e-4)


def test_the_adapter_is_not_left_out(logits):
    """Else the folder's model would be the base, which the tolerances above might take."""
    apart = numpy.abs(logits["adapter"] - logits["base"]).max()
    assert apart > 0.1 * numpy.abs(logits["base"]).max()


@pytest.mark.parametrize("name", FORMS)
def test_the_lines_of_its_card_load_it(exported, name):
    folder, written = exported[name]
    task = "seq2seq-lm" if name == "encoder-decoder" else "causal-lm"
    has_tokenizer = (folder / "tokenizer_config.json").is_file()
    found = {}
    exec(loading_snippets.code(written["form"], task, str(folder), has_tokenizer), found)
    assert found["model"].config.vocab_size and ("tokenizer" in found) == has_tokenizer


@pytest.mark.parametrize("name", FORMS)
def test_the_form_and_the_evaluated_digest(artifacts, exported, name):
    folder, written = exported[name]
    assert written["form"] == FORMS[name]
    record = file_io.read_json(artifacts[name] / "manifest.json")["record"]["weights"]
    assert written["models"][0]["weights"] == record
    assert len(written["models"]) == (2 if FORMS[name] == "summed" else 1)
    assert exported_folder.check(folder).differences == []
    assert not (folder / "manifest.json").exists() and not (folder / "prune.json").exists()


def test_peft_puts_the_adapter_on_its_base(artifacts, exported, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = exported["adapter"][0]
    shutil.copytree(folder, tmp_path / "base", ignore=shutil.ignore_patterns("adapter*"))
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with torch.no_grad():
        model = PeftModel.from_pretrained(base, folder).eval()
        found = model(torch.tensor(export_world.IDS)).logits[0].numpy()
    numpy.testing.assert_allclose(
        found, export_world.own_logits(artifacts["adapter"]), rtol=1e-4, atol=1e-4
    )


def test_an_adapter_that_goes_to_a_hub_finds_its_base_there(artifacts, tmp_path):
    for repo, base in ((None, "."), ("org/model", "org/model")):
        out = tmp_path / f"to-{len(base)}"
        out.mkdir()
        export_forms.write(artifacts["nf4-adapter"], out, "float32", repo=repo)
        about = file_io.read_json(out / "adapter_config.json")
        assert about["base_model_name_or_path"] == base


@pytest.mark.parametrize("name", ["masked", "nf4-masked"])
def test_a_masked_adapter_keeps_its_zeros_in_the_sum(exported, name):
    folder, written = exported[name]
    parts, whole = (model["weights"] for model in written["models"])
    assert whole["nm_valid"] and whole["prunable_zeros"] > 0
    assert whole["sparsity_prunable"] == parts["sparsity_effective"]
    assert (folder / "parts/masks.safetensors").is_file()
    assert not {"adapter_config.json", "adapter_model.safetensors"} & {
        path.name for path in folder.iterdir()
    }


def test_the_sum_has_the_precision_that_was_evaluated(artifacts, tmp_path):
    # The NF4 base is float32 outside of its codes, so nothing of it is narrowed.
    for name, dtype, stored in (
        ("bfloat16-masked", "bfloat16", torch.bfloat16),
        ("bfloat16-masked", "float32", torch.float32),
        ("nf4-masked", "bfloat16", torch.float32),
    ):
        out = tmp_path / f"{name}-{dtype}"
        out.mkdir()
        export_forms.write(artifacts[name], out, dtype)
        tensors = load_file(out / "model.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {stored}


def test_packed_it_is_unpacked_to_the_same_weights(artifacts, tmp_path):
    from prunegrid.models.packed.packed_checkpoint import unpack

    out = tmp_path / "packed"
    out.mkdir()
    written = export_forms.write(artifacts["decoder"], out, "float32", packed=True)
    exported_folder.seal(out, written | {"row": {}})
    assert written["form"] == "packed" and exported_folder.check(out).differences == []
    unpack(out, tmp_path / "whole")
    digest = checkpoint.file_weights_sha256(tmp_path / "whole")
    assert digest == written["models"][0]["weights"]["sha256"]
