"""The oracle's loop over experts computes what the models compute, and sees every token."""

import pytest
import torch

from tests.matrix import expert_oracle, oracle, subjects

pytestmark = pytest.mark.model

# Those whose experts are stored, biased, gated or multiplied in ways of their own.
NAMES = ("mixtral", "gpt_oss", "llama4_text", "jetmoe", "nemotron_h", "deepseek_v4")


@pytest.mark.parametrize("name", NAMES)
def test_the_loop_gives_what_the_model_gives(name):
    facts = subjects.read_models()[name]
    model = oracle.without_cache(subjects.build(facts["task"], facts["config"]))
    found = oracle.all_linears(model, facts["blocks"])
    experts = {n: m for n, m in found.items() if isinstance(m, expert_oracle.Expert)}
    window = torch.randint(4, 200, (24,), generator=torch.Generator().manual_seed(0))
    expected, seen = oracle.run_window(model, window), {}
    with expert_oracle.recording(experts, lambda n, given: seen.update({n: given})):
        oracle.require_same_logits("the loop", oracle.run_window(model, window), expected)
    assert seen.keys() <= experts.keys()
    chosen: dict[str, int] = {}
    for expert, given in seen.items():
        assert given.shape[1] == experts[expert].oriented.shape[1]
        tensor = expert.rpartition(".")[0]
        chosen[tensor] = chosen.get(tensor, 0) + len(given)
    # Each token reaches as many experts in each tensor, and those of a layer the same.
    assert all(count % len(window) == 0 for count in chosen.values())
    assert len(set(chosen.values())) == 1
