"""What each parameter is, found by structure; here told by the names that transformers gives."""

import pytest

from prunegrid.models import attestation
from prunegrid.models.parameter_kinds import KINDS, Place, places
from tests.helpers import expert_models
from tests.helpers.architectures import ARCHITECTURES, build

pytestmark = pytest.mark.model

TABLES = ("embed_tokens", "embed_positions", "shared", "wte", "wpe", "embed_in", "_embeddings")
TABLES = (*TABLES, "relative_attention_bias", "rel_embeddings")


def named_kind(name, inside):
    """The kind of a parameter by its name alone, read off the architectures' sources."""
    module, _, leaf = name.rpartition(".")
    last = module.rpartition(".")[2]
    if "norm" in last.lower() or last.startswith("ln_"):
        return "norm"
    if leaf == "bias":
        return "bias"
    if last.endswith(TABLES):
        return "embedding"
    if not inside:
        return "outside"
    return "attention" if "attn" in name or "attention" in name.lower() else "mlp"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_has_the_kind_and_the_block_that_its_name_says(name):
    model, blocks = build(name), ARCHITECTURES[name].names()
    stored = attestation.model_tensors(model)
    found = places(model, stored)
    assert found.keys() == stored.keys() & dict(model.named_parameters()).keys()
    for parameter, place in found.items():
        block = next((block for block in blocks if parameter.startswith(f"{block}.")), None)
        assert place.kind in KINDS
        assert place.kind == named_kind(parameter, block is not None), parameter
        at = None if block is None else f"{place.stack}.{place.block}"
        assert at == block and (place.stack is None) == (block is None)
        if block:
            assert place.blocks == sum(other.startswith(place.stack) for other in blocks)


def test_a_head_that_is_the_embeddings_is_no_head():
    tied, own = build("t5"), build("t5-v1.1")
    assert places(tied, attestation.model_tensors(tied))["shared.weight"] == Place("embedding")
    # A file that names the head alone for both holds the same table.
    assert places(tied, {"lm_head.weight"}) == {"lm_head.weight": Place("embedding")}
    both = places(own, attestation.model_tensors(own))
    assert both["shared.weight"].kind == "embedding" and both["lm_head.weight"].kind == "outside"


def test_a_layer_between_the_blocks_is_outside():
    model = build("deberta-v2-xlarge")
    found = places(model, attestation.model_tensors(model))
    assert found["encoder.conv.conv.weight"] == Place("outside")
    assert found["encoder.conv.conv.bias"] == Place("bias")
    assert found["encoder.rel_embeddings.weight"] == Place("embedding")


def test_fused_experts_are_of_the_mlp_and_their_vectors_are_biases():
    model = expert_models.build("gpt_oss")
    found = places(model, attestation.model_tensors(model))
    experts = {n: place for n, place in found.items() if ".experts." in n}
    assert {n.rpartition(".")[2]: place.kind for n, place in experts.items()} == {
        "gate_up_proj": "mlp",
        "down_proj": "mlp",
        "gate_up_proj_bias": "bias",
        "down_proj_bias": "bias",
    }
    assert found["model.layers.0.mlp.router.weight"].kind == "other"
