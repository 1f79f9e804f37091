"""The matrix: its page is that of its results, a tenth of it still holds, and its oracle sees."""

from __future__ import annotations

import os
import signal

import pytest
import torch
import transformers
from torch import nn

from prunegrid.common import machine
from prunegrid.pruning import prune_weight
from tests.matrix import oracle, packing_oracle, page, pruning_oracle, runner
from tests.matrix.checks import Mismatch, require_close
from tests.matrix.chosen import commit_hash, tenth
from tests.matrix.columns import COLUMNS
from tests.matrix.oracle import Row
from tests.matrix.subjects import build, read_models, subject
from tests.matrix.verdicts import FAULT, REFUSED

LLAMA = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128}
LLAMA |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.mark.matrix
def test_a_tenth_is_as_the_page_says(capsys):
    names = list(read_models())
    commit = commit_hash(page.ROOT, names)
    chosen = tenth(names, commit)
    with capsys.disabled():
        print(f"\nmatrix: commit {commit[:12]} chooses {', '.join(chosen)}")
    recorded = page.read_results()
    found = runner.run(chosen, list(COLUMNS), machine.cores(), lambda line: None)
    changed = [
        f"{name} {step}: {cell[0]} ({cell[1]}), and the page says {recorded[name][step][0]}"
        for name, cells in found.items()
        for step, cell in cells.items()
        if cell[0] != recorded[name][step][0]
    ]
    assert changed == [], "run `make matrix`, and look at what has changed"


def test_the_page_is_that_of_the_results():
    assert page.PAGE.read_text(encoding="utf-8") == page.render(page.read_results())


def test_the_results_are_of_all_models_and_all_steps():
    results = page.read_results()
    assert list(results) == list(read_models()) and len(results) >= 120
    assert all(list(cells) == list(COLUMNS) for cells in results.values())
    assert not page.too_many_untried(results)
    assert all(
        reason for cells in results.values() for verdict, reason in cells.values()
        if verdict in (FAULT, REFUSED)
    )  # fmt: skip


def test_another_commit_chooses_another_tenth():
    names = [f"model{number}" for number in range(95)]
    first, second = tenth(names, "a"), tenth(names, "b")
    assert len(first) == len(second) == 10 and first != second
    assert first == [name for name in names if name in first] == tenth(names, "a")
    assert {name for number in range(99) for name in tenth(names, str(number))} == set(names)


def test_a_crash_is_a_fault_of_its_step_and_the_others_go_on(monkeypatch):
    from tests.matrix import columns

    def judge(one, step):
        if step == "norms":
            os.kill(os.getpid(), signal.SIGKILL)
        return "verified", ""

    monkeypatch.setattr(columns, "judge", judge)
    cells = runner.run(["llama"], ["import", "norms", "wanda"], 1, lambda line: None)["llama"]
    assert [cells[step][0] for step in cells] == ["verified", "fault", "verified"]
    assert "ended with code" in cells["norms"][1]


@pytest.fixture
def weights():
    """Return a weight [16, 32] and inputs [200, 32] of one linear."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(16, 32, generator=draw)
    scales = 1 + torch.arange(32) % 5
    return weight, torch.randn(200, 32, generator=draw) * scales


def swap(after: torch.Tensor, before: torch.Tensor, width: int) -> torch.Tensor:
    """Return a mask's weights where, in one group of columns, another weight is kept."""
    after = after.clone()
    gone = int((after[3, :width] == 0).nonzero()[0])
    kept = int((after[3, :width] != 0).nonzero()[0])
    after[3, gone], after[3, kept] = before[3, gone], 0.0
    return after


CHECKS = {
    "magnitude": lambda old, new, x: pruning_oracle.require_magnitude("w", old, new, 4),
    "wanda": lambda old, new, x: pruning_oracle.require_wanda("w", old, new, x.double()),
    "sparsegpt": lambda old, new, x: pruning_oracle.require_sparsegpt("w", old, new, x.double()),
}


@pytest.mark.parametrize("method", CHECKS)
def test_a_mask_with_one_flipped_weight_is_found(weights, method):
    before, inputs = weights
    wanted = {"sparsity": 0.5} if method == "wanda" else {}
    pattern = "unstructured" if method == "wanda" else "2:4"
    after = prune_weight(before, method, pattern, inputs=inputs, **wanted)
    CHECKS[method](before, after, inputs)
    with pytest.raises(Mismatch):
        CHECKS[method](before, swap(after, before, 32 if method == "wanda" else 4), inputs)
    filled = after.clone()
    filled[0, int((after[0] == 0).nonzero()[0])] = 0.5
    with pytest.raises(Mismatch):
        CHECKS[method](before, filled, inputs)
    other = after.clone()
    other[5, int((after[5] != 0).nonzero()[0])] += 0.5
    with pytest.raises(Mismatch):
        CHECKS[method](before, other, inputs)


def test_too_many_of_four_are_found():
    weight = torch.tensor([[1.0, 2.0, 0.0, 0.0], [1.0, 2.0, 3.0, 0.0]])
    pruning_oracle.require_nm("w", weight[:1], 2, 4)
    with pytest.raises(Mismatch, match="more than 2 of 4"):
        pruning_oracle.require_nm("w", weight, 2, 4)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t | {"b": t["b"] + 1},
        lambda t: {"a": t["a"], "c": t["b"]},
        lambda t: t | {"b": t["b"].reshape(3, 2)},
        lambda t: t | {"b": t["b"].half()},
        lambda t: {"a": t["a"]},
    ],
)
def test_a_digest_of_other_tensors_is_another(change):
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2)}
    assert oracle.digest(tensors) == oracle.digest(dict(reversed(tensors.items())))
    assert oracle.digest(change(tensors)) != oracle.digest(tensors)


@pytest.mark.model
def test_a_loss_with_padding_seen_is_found():
    model, pads = oracle.without_cache(build("causal-lm", LLAMA)), 5
    row = Row([7, 8, 9, 10], [20, 21, 22])
    alone = oracle.row_loss(model, row)
    ids = torch.tensor([[1] * pads + row.prompt + row.response])
    mask = torch.tensor([[0] * pads + [1] * (len(row.prompt) + len(row.response))])

    def loss(**arguments) -> float:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False, **arguments).logits[0]
        return oracle.summed_loss(logits[pads + len(row.prompt) - 1 : -1], row.response)

    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    masked = loss(attention_mask=mask, position_ids=positions)
    require_close("loss", masked, alone, oracle.LOSS_TOLERANCE)
    with pytest.raises(Mismatch):
        require_close("loss", loss(), alone, oracle.LOSS_TOLERANCE)


@pytest.mark.model
def test_a_greedy_text_is_that_of_plain_transformers():
    model = build("causal-lm", LLAMA)
    made = model.generate(
        torch.tensor([[7, 8, 9]]), max_new_tokens=6, do_sample=False, pad_token_id=1
    )[0, 3:].tolist()
    text, gap = oracle.greedy(oracle.without_cache(model), [7, 8, 9], stop=2, most=6)
    assert gap > oracle.NEAR_TIE and text == [token for token in made if token != 2]


def test_codes_that_are_not_the_nearest_are_found():
    table = torch.tensor(packing_oracle.NF4)
    plain = torch.linspace(-1, 1, 64)
    codes = (plain[:, None] - table).abs().argmin(1)
    packing_oracle.require_nf4("w", plain, table[codes])
    codes[10] += 1
    with pytest.raises(Mismatch, match="nearest NF4"):
        packing_oracle.require_nf4("w", plain, table[codes])
    row = torch.linspace(-1, 1, 9)[None]
    steps = (row * 127).round()
    packing_oracle.require_int8("w", row, steps / 127)
    steps[0, 3] += 1
    with pytest.raises(Mismatch, match="nearest int8"):
        packing_oracle.require_int8("w", row, steps / 127)
    with pytest.raises(Mismatch, match="fills zeros"):
        packing_oracle.require_int8("w", torch.zeros(1, 2), torch.ones(1, 2))


@pytest.mark.model
def test_the_oracle_counts_each_parameter_once():
    config = {**LLAMA, "tie_word_embeddings": True}
    model = build("causal-lm", config)
    facts = oracle.counts(model, ["model.layers"])
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert facts["prunable_parameters"] == 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128)
    assert "lm_head.weight" not in oracle.named_tensors(model)


@pytest.mark.model
def test_inputs_are_those_of_every_call():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.config = transformers.LlamaConfig()
            self.inner = nn.Linear(4, 4)

        def forward(self, input_ids):
            hidden = input_ids[..., None].expand(-1, -1, 4).float()
            return type("Out", (), {"logits": self.inner(self.inner(hidden))})

    model = Twice()
    given = oracle.inputs_of(model, {"inner": model.inner}, torch.arange(6).reshape(2, 3))
    assert given["inner"].shape == (2 * 2 * 3, 4)


@pytest.mark.model
@pytest.mark.parametrize("name", ["llama", "gpt2", "bart-seq2seq", "bert-masked"])
def test_a_subject_is_the_same_each_time(tmp_path, name):
    known = read_models()
    name = name if name in known else name.partition("-")[0]
    digests = [
        oracle.digest(oracle.read_files(subject(name, tmp_path / place).hub())) for place in "ab"
    ]
    assert digests[0] == digests[1]
