"""Recovery: whatever a strategy does, zeros are the mask's at each stage, and non-zeros change."""

from __future__ import annotations

import pytest
import torch

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.finetuning import adapters
from prunegrid.finetuning.context import Context
from prunegrid.models import checkpoint, open_checkpoint, split_checkpoint
from prunegrid.stages import predictions
from tests.helpers import tiny
from tests.helpers.tuning import (
    KINDS,
    PATTERNS,
    REFIT,
    calibration,
    change,
    masks_of,
    places,
    tune,
    weights,
)

pytestmark = pytest.mark.model

# NF4 has 16 codes for a weight: most steps end in the code where they began.
LEAST_MOVED = {"qlora-merged": 0.1, "qlora-after": 0.1}
RATE = {"full": 3e-3, "norms": 3e-2}
# (strategy, its other settings, where the zeros are kept)
WAYS = {
    "full": ("full", {}, "all"),
    "norms": ("norms", {}, "all"),
    "lora": ("lora", {}, "all"),
    "lora-unmerged": ("lora", {"adapter": "unmerged"}, "all"),
    "lora-unmasked": ("lora", {"adapter": "unmasked"}, "base"),
    "lora-after": ("lora", {"adapter": "masked-after"}, "all"),
    "qlora": ("qlora", {}, "all"),
    "qlora-merged": ("qlora", {"adapter": "merged"}, "all"),
    "qlora-after": ("qlora", {"adapter": "masked-after"}, "all"),
    "qlora-int8-merged": ("qlora", {"adapter": "merged", "quantization": "int8"}, "all"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("way", WAYS)
def test_zeros_stay_and_non_zeros_change(tmp_path, kind, pattern, way):
    strategy, settings, keeps = WAYS[way]
    parent = tiny.artifact(tmp_path / "parent", kind, pattern)
    rate = RATE.get(strategy, 2e-2)
    record, out = tune(tmp_path, parent, strategy, learning_rate=rate, **settings)
    train, facts = record["train"], record["weights"]
    assert train["last_loss"] < train["first_loss"]
    assert train["zeros_promised"] == keeps and train["zeros_filled_base"] == 0
    assert (train["zeros_filled"] == 0) is (keeps == "all")
    assert facts["nm_valid"] is (True if ":" in pattern else None)
    before, after, masks = weights(parent), places(out), masks_of(parent)
    packed = strategy == "qlora"
    if packed:  # quantizing alone moves almost every weight: what is compared is quantized too
        packing = {"precision": settings.get("quantization", "nf4"), "double_quant": True}
        _, alone = change(tmp_path, parent, "alone", strategy="quantize", **packing)
        before = {name: both for name, (_, both) in places(alone).items()}
    for name, mask in masks.items():
        base, both = after[name]
        assert not base[~mask].any(), name
        if keeps == "all":
            assert not both[~mask].any(), name
        if not packed:  # NF4 rounds small weights to zero, a float does not
            assert base[mask].all(), name
        moved = (both[mask] != before[name][mask]).float().mean()
        least = LEAST_MOVED.get(way, 0.8)
        assert moved == 0 if strategy == "norms" else moved > least, (name, moved)
    expected = 0.5 if keeps == "all" else 0.0
    assert facts["sparsity_effective"] == pytest.approx(expected, abs=0.06)
    assert facts["sparsity_prunable"] >= 0.5


@pytest.mark.parametrize("strategy", ["full", "lora", "qlora"])
def test_free_sparsity_is_a_control(tmp_path, strategy):
    """Zeros fill, the job does not fail, and its record says that sparsity was free."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    record, out = tune(tmp_path, parent, strategy, preserve_zeros=False, learning_rate=1e-2)
    train, facts = record["train"], record["weights"]
    assert train["zeros_promised"] == "none" and train["zeros_filled"] > 1000
    assert facts["sparsity_effective"] < 0.1
    assert facts["nm_valid"] is (strategy == "qlora")  # its base keeps them
    assert open_checkpoint.load(out).record == facts
    assert file_io.read_json(out / "finetune.json")["settings"]["preserve_zeros"] is False
    assert not (out / split_checkpoint.MASKS).exists()


def test_free_sparsity_can_be_tuned_on(tmp_path):
    """What lost its pattern on purpose may be tuned again, with what it has left kept."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    _, free = tune(tmp_path, parent, "full", "free", preserve_zeros=False, max_steps=1)
    record, _ = tune(tmp_path, free, "full", "again", max_steps=1)
    assert record["weights"]["nm_valid"] is False and record["train"]["zeros_filled"] == 0


def test_dense_promises_nothing(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama")
    record, _ = tune(tmp_path, parent, "full", max_steps=1)
    assert record["train"]["zeros_promised"] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_merged_equals_unmerged(tmp_path, kind, pattern):
    """The plain folder of masked LoRA computes what base, adapter and masks do, to rounding."""
    parent = tiny.artifact(tmp_path / "parent", kind, pattern)
    made = {
        way: tune(tmp_path, parent, "lora", way, adapter=way, learning_rate=2e-2, epochs=1)[1]
        for way in ("merged", "unmerged")
    }
    ids = torch.randint(3, 40, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        merged, unmerged, untuned = (
            open_checkpoint.load(folder).model(input_ids=ids).logits
            for folder in (made["merged"], made["unmerged"], parent)
        )
    assert (merged - unmerged).abs().max() < 1e-4 * unmerged.abs().max()
    assert (merged - untuned).abs().max() > 1e-2 * unmerged.abs().max()
    one, two = places(made["merged"]), places(made["unmerged"])
    for name in one:
        assert torch.equal(one[name][1] == 0, two[name][1] == 0)


def test_unmerged_base_is_the_parent(tmp_path):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4", dtype=torch.bfloat16)
    record, out = tune(tmp_path, parent, "lora", adapter="unmasked", max_steps=2)
    before = weights(parent)
    assert all(torch.equal(base, before[name]) for name, (base, _) in places(out).items())
    assert record["weights"]["precision"] == "bfloat16"
    assert record["weights"]["adapter"] == "unmerged"
    assert record["weights"]["sha256"] == checkpoint.file_weights_sha256(out)


def test_masked_after_costs_loss(tmp_path):
    """Masking only at the end throws away a part of what was trained; the record says how much."""
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    losses = {}
    for way in ("merged", "masked-after"):
        train = tune(tmp_path, parent, "lora", way, adapter=way, epochs=4, learning_rate=2e-2)[0][
            "train"
        ]
        losses[way] = train["merge_loss_after"] - train["merge_loss_before"]
    assert abs(losses["merged"]) < 1e-4 < 0.05 < losses["masked-after"]


@pytest.mark.parametrize("packing", ["nf4", "int8"])
def test_merging_qlora_costs_what_is_recorded(tmp_path, packing):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    named = {"quantization": packing, "learning_rate": 2e-2, "epochs": 4}
    targets = ["q_proj", "up_proj"]
    beside, one = tune(tmp_path, parent, "qlora", "beside", targets=targets, **named)
    merged, two = tune(
        tmp_path, parent, "qlora", "merged", adapter="merged", targets=targets, **named
    )
    train = merged["train"]
    assert beside["train"]["last_loss"] == train["last_loss"]
    assert train["merge_loss_before"] < train["first_loss"]
    # Coarse codes round the product: NF4 more than int8, and neither for nothing.
    cost = abs(train["merge_loss_after"] - train["merge_loss_before"])
    assert 0 < cost < {"nf4": 0.5, "int8": 0.05}[packing]
    assert merged["weights"]["adapter"] == "merged"
    assert merged["weights"]["precision"] == packing
    assert not (two / "adapter").exists() and not (two / "summed").exists()
    before, after = places(one), places(two)
    for name in before:
        touched = name.endswith(tuple(targets))
        assert torch.equal(before[name][0], after[name][0]) is not touched, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_zeros_are_the_same_through_a_long_chain(tmp_path, kind, pattern):
    """Refitted, tuned in three ways, cast, and packed: the mask is the same after each step."""
    dense = tiny.artifact(tmp_path / "dense", kind)
    folder = tiny.artifact(tmp_path / "pruned", kind, pattern)
    masks = masks_of(folder)
    parents = {"dense": dense, "calibration": calibration(tmp_path / "c")}
    _, folder = change(tmp_path, folder, "refitted", parents, **REFIT)
    for strategy in ("full", "norms", "lora"):
        assert all(torch.equal(mask, masks[n]) for n, mask in masks_of(folder).items())
        _, folder = tune(tmp_path, folder, strategy, strategy, max_steps=2)
    for precision in ("bfloat16", "float32", "nf4"):
        assert all(torch.equal(mask, masks[n]) for n, mask in masks_of(folder).items())
        settings = {"strategy": "quantize", "precision": precision, "double_quant": True}
        record, folder = change(tmp_path, folder, precision, **settings)
    assert record["transform"]["zeros_filled"] == 0
    for name, (base, both) in places(folder).items():
        assert torch.equal(base, both) and not base[~masks[name]].any(), name


def test_a_transform_gives_the_same_bytes_again(tmp_path):
    dense = tiny.artifact(tmp_path / "dense", "llama")
    pruned = tiny.artifact(tmp_path / "pruned", "llama", "2:4")
    parents = {"dense": dense, "calibration": calibration(tmp_path / "c")}
    packing = {"strategy": "quantize", "precision": "nf4", "double_quant": True}
    for settings in (REFIT, packing):
        made = [
            change(tmp_path, pruned, f"{settings['strategy']}{n}", parents, **settings)[1]
            for n in range(2)
        ]
        for folder in made:
            (folder / artifact_folder.MANIFEST).unlink()
            story = file_io.read_json(folder / "transform.json")
            assert not any("seconds" in key for key in story)
        assert artifact_folder.list_files(made[0]) == artifact_folder.list_files(made[1])


@pytest.mark.parametrize("way", ["lora-unmerged", "lora-unmasked", "qlora-merged", "packed"])
def test_every_kind_of_folder_generates(tmp_path, way):
    parent = tiny.artifact(tmp_path / "parent", "llama", "2:4")
    tiny.data(tmp_path / "data")
    if way == "packed":
        settings = {"strategy": "quantize", "precision": "int8", "double_quant": True}
        record, out = change(tmp_path, parent, **settings)
    else:
        strategy, settings, _ = WAYS[way]
        record, out = tune(tmp_path, parent, strategy, max_steps=2, **settings)
    (tmp_path / "p").mkdir()
    parents = {"weights": out, "data": tmp_path / "data"}
    settings = tiny.generation(rows=4, cache_dequantized=True)
    found = predictions.run(settings, parents, tmp_path / "p", tiny.job())
    assert found["weights"] == record["weights"] and found["rows"] == 4


def test_the_loss_of_tuning_rows_is_the_plain_mean(tmp_path):
    """Against every row by itself, whatever the batch."""
    parent = tiny.artifact(tmp_path / "parent", "llama")
    data = tiny.data(tmp_path / "data", rows=7, uneven=True)
    settings = tiny.finetune("lora", batch_size=3)
    parents = {"weights": parent, "data": data}
    context = Context(settings, parents, tmp_path, tiny.job())
    model, total, count = context.checkpoint.model, 0.0, 0
    for row in context.examples:
        ids = torch.tensor([row.prompt + row.response])
        logits = model(input_ids=ids).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        total -= float(logits[range(len(row.response)), row.response].sum().detach())
        count += len(row.response)
    assert adapters.tuning_loss(model, context) == pytest.approx(total / count, rel=1e-5)
