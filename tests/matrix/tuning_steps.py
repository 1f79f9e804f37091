"""The steps of the matrix after pruning: losses, texts, tuning, precisions, packing, digests."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn

from prunegrid.models import checkpoint, open_checkpoint
from prunegrid.models.packed import packed_checkpoint
from prunegrid.stages import finetune, perplexity, predictions, transform, translations
from tests.helpers import tiny
from tests.matrix import oracle, packing_oracle, pruning_oracle
from tests.matrix.checks import require, require_close, require_digest, require_equal, require_names
from tests.matrix.expert_oracle import Expert
from tests.matrix.hidden_tokens import rows_of
from tests.matrix.oracle import LOSS_TOLERANCE
from tests.matrix.steps import check_plain
from tests.matrix.subjects import (
    EOS,
    LENGTH,
    SAMPLES,
    TEMPLATE,
    Subject,
    record_of,
)

PROMPT = tiny.prompt(template=TEMPLATE)
TUNED = {
    **{"split": "train", "dev_split": "held", "evaluate_every": 1, "prompt": PROMPT},
    **{"schedule": "constant", "warmup_steps": 0, "epochs": 2, "batch_size": 4},
}
WINDOWS = {"split": "text", "column": "text", "protocol": "nonoverlap", "window": LENGTH}
WINDOWS |= {"stride": None, "max_windows": SAMPLES, "special_tokens": False}
WINDOWS |= {"cache_dequantized": False}
NEW_TOKENS = 6


def check_windows(subject: Subject, weights: Path, model: nn.Module, name: str) -> None:
    """The stage's loss of each window is that of the oracle's model, where that has one."""
    folder = subject.new_folder(name)
    parents = {"weights": weights, "data": subject.data()}
    record = perplexity.run(WINDOWS, parents, folder, subject.job())
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights)
    text = pq.read_table(subject.data() / "text.parquet")["text"][0].as_py()
    ids = tokenizer(text, add_special_tokens=False).input_ids
    table = pq.read_table(folder / "windows.parquet").to_pydict()
    require_equal("the number of windows", len(table["loss"]), SAMPLES)
    if not oracle.is_causal(model, ids[:LENGTH]):
        return
    expected = []
    for place, loss in enumerate(table["loss"]):
        expected.append(oracle.window_loss(model, ids[place * LENGTH : (place + 1) * LENGTH]))
        require_close("the loss of a window", loss, expected[-1], LOSS_TOLERANCE)
    mean = sum(expected) / (SAMPLES * (LENGTH - 1))
    require_close("perplexity", math.log(record["perplexity"]), mean, LOSS_TOLERANCE)


def windows_loss(subject: Subject) -> None:
    """The windows have the losses that plain torch gives them, one at a time."""
    weights = subject.dense()
    model = subject.plain(weights)
    check_windows(subject, weights, model, "perplexity")
    require(
        oracle.is_causal(model, subject.windows()[0].tolist()),
        "accepted, though the model sees the tokens that it is to predict",
    )


def batches(subject: Subject) -> None:
    """Losses and greedy texts of rows of many lengths are those of each row alone."""
    weights = subject.dense()
    model, rows = subject.plain(weights), subject.tokens(weights, "uneven")
    check_texts(subject, weights, model, rows)
    changes = {"dev_split": "uneven", "max_steps": 1, "learning_rate": 1e-5}
    record, _ = tune(subject, weights, "full", "batches-loss", **changes)
    expected = oracle.mean_loss(model, rows)
    found = record["train"]["first_dev_loss"]
    require_close("the loss of a batch with pads", found, expected, LOSS_TOLERANCE)


def logits_of_stored(subject: Subject, folder: Path, model: nn.Module) -> None:
    """The library's model of a folder computes what the oracle's model does."""
    loaded = oracle.without_cache(open_checkpoint.load(folder, compute_dtype="float32").model)
    for window in subject.windows()[:2]:
        found, expected = (oracle.run_window(each, window) for each in (loaded, model))
        oracle.require_same_logits("stored model", found, expected)


def without_half_character(text: str) -> str:
    """Return a text without the bytes at its end that are no whole character: three at most."""
    for _ in range(3):
        text = text.removesuffix("\ufffd")
    return text


def check_texts(subject: Subject, weights: Path, model: nn.Module, rows: list[oracle.Row]) -> None:
    """Texts written in batches of one and of four are the oracle's, but for near-ties."""
    stage = translations if subject.task == "seq2seq-lm" else predictions
    parents = {"weights": weights, "data": subject.data()}
    written = {}
    for size in (1, 4):
        folder = subject.new_folder(f"texts-{size}")
        settings = tiny.generation(
            split="uneven", prompt=PROMPT, max_new_tokens=NEW_TOKENS, batch_size=size
        )
        stage.run(settings | {"languages": None}, parents, folder, subject.job())
        written[size] = pq.read_table(folder / "predictions.parquet")["prediction"].to_pylist()
    tokenizer = transformers.AutoTokenizer.from_pretrained(weights)
    for place, row in enumerate(rows):
        made, gap = oracle.greedy(model, row.prompt, EOS, NEW_TOKENS)
        if gap < oracle.NEAR_TIE:
            continue
        text = tokenizer.decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if len(made) == NEW_TOKENS:
            text = without_half_character(text.strip())
        for size, texts in written.items():
            same = texts[place] == text.strip()
            require(same, f"a greedy text in batches of {size} is not that of the row alone")


def tune(subject: Subject, weights: Path, strategy: str, name: str, **changes) -> tuple[dict, Path]:
    """Return the record and the folder of a finetune step."""
    folder = subject.new_folder(name)
    parents = {"weights": weights, "data": subject.data()}
    settings = tiny.finetune(strategy, **TUNED | changes)
    record = finetune.run(settings, parents, folder, subject.job())
    tiny.finish(folder, record["weights"])
    return record, folder


def check_tuned(subject: Subject, parent: Path, folder: Path, record: dict) -> nn.Module:
    """Return the tuned model: every zero of its parent's linears is kept, others have moved."""
    model = check_plain(subject, folder, record["weights"])
    before = oracle.all_linears(subject.plain(parent), subject.blocks)
    moved = 0
    for name, module in oracle.all_linears(model, subject.blocks).items():
        old, new = oracle.weight_of(before[name]), oracle.weight_of(module)
        require(bool((new[old == 0] == 0).all()), f"{name}: tuning fills pruned places")
        moved += int((old != new).any())
    require(moved > 0, "tuning has changed no linear")
    return model


def full(subject: Subject) -> None:
    """Zeros stay; the losses of other rows before and after are the oracle's."""
    parent = subject.sparse()
    # Rows of many lengths: of an encoder no other step shows that pads are not seen.
    split = "uneven" if subject.task == "masked-lm" else "held"
    record, folder = tune(subject, parent, "full", "full", dev_split=split)
    model, facts = check_tuned(subject, parent, folder, record), record["train"]
    rows = rows_of(subject, parent, split, "development rows")
    before = oracle.mean_loss(subject.plain(parent), rows)
    require_close("the loss before", facts["first_dev_loss"], before, LOSS_TOLERANCE)
    after = oracle.mean_loss(model, rows)
    require_close("the loss after", facts["dev_loss"], after, LOSS_TOLERANCE)


def lora(subject: Subject) -> None:
    """Zeros stay; the merged model has the loss that base and adapter had."""
    parent = subject.sparse()
    record, folder = tune(subject, parent, "lora", "lora", dev_split=None, evaluate_every=None)
    model = check_tuned(subject, parent, folder, record)
    linears = oracle.all_linears(subject.plain(parent), subject.blocks)
    changed = {f"{name}.weight" for name in linears}
    pruning_oracle.require_others_unchanged(
        oracle.named_tensors(subject.plain(parent)), oracle.named_tensors(model), changed
    )
    loss = oracle.mean_loss(model, rows_of(subject, parent, "train", "first rows"))
    for moment in ("before", "after"):
        found = record["train"][f"merge_loss_{moment}"]
        require_close(f"the loss {moment} the merge", found, loss, LOSS_TOLERANCE)


def check_parts(subject: Subject, folder: Path, record: dict) -> None:
    """The digest of a folder in parts is the one of its files, each under its part's name."""
    tensors = {f"base/{n}": t for n, t in oracle.read_files(folder / "base").items()}
    tensors |= {f"adapter/{n}": t for n, t in oracle.read_files(folder / "adapter").items()}
    tensors |= {f"masks/{n}": t for n, t in oracle.read_files(folder).items()}
    require_digest("the weights", record["sha256"], oracle.digest(tensors))
    auto = getattr(transformers, oracle.AUTO[subject.task])
    _, info = auto.from_pretrained(folder / "base", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys"):
        require(not info[key], f"plain transformers has {key.replace('_', ' ')}")


def dequantized(
    subject: Subject,
    parent: Path,
    folder: Path,
    facts: dict,
    check: Callable[[str, Tensor, Tensor], None],
) -> nn.Module:
    """Return the parent's plain model with the weights of a packed base, each code checked.

    Linears that the step's facts name as not quantized must be as they were.
    """
    model = subject.plain(parent)
    packed = packing_oracle.read_packed(folder / "base")
    linears = oracle.all_linears(model, subject.blocks)
    plain = {name: linears.pop(name) for name in facts.get("not_quantized", ())}
    require_names("packed linears", packed, linears)
    files = oracle.read_files(folder / "base") if plain else {}
    for name, module in plain.items():
        expert = isinstance(module, Expert)
        stored = files[name.rpartition(".")[0]][module.index] if expert else files[f"{name}.weight"]
        same = torch.equal(stored, module.weight)
        require(same, f"{name}: not quantized, and changed")
    for name, module in linears.items():
        weight = oracle.weight_of(module)
        check(name, weight, packed[name])
        weight.copy_(packed[name])
    return model


def check_zeros(record: dict, model: nn.Module, subject: Subject) -> None:
    """The counts of a packed record are those of the dequantized weights."""
    for key, value in oracle.counts(model, subject.blocks).items():
        if key.startswith("prunable"):
            require_equal(key, record[key], value)


def quantize(subject: Subject, precision: str) -> None:
    """Codes are the nearest, zeros stay zero, and losses are those of the dequantized weights."""
    parent, folder = subject.sparse(), subject.new_folder(precision)
    settings = {"strategy": "quantize", "precision": precision, "double_quant": True}
    whole = transform.run(settings, {"weights": parent}, folder, subject.job())
    record = whole["weights"]
    tiny.finish(folder, record)
    check = {"nf4": packing_oracle.require_nf4, "int8": packing_oracle.require_int8}[precision]
    model = dequantized(subject, parent, folder, whole["transform"], check)
    require_equal("precision", record["precision"], precision)
    check_zeros(record, model, subject)
    check_parts(subject, folder, record)
    if subject.task == "causal-lm":
        check_windows(subject, folder, model, f"perplexity-{precision}")
    else:
        logits_of_stored(subject, folder, model)


def qlora(subject: Subject) -> None:
    """Codes are the nearest; losses are those of the base and the product under the mask."""
    parent = subject.sparse()
    plain = subject.task == "causal-lm"
    changes = {"dev_split": None, "evaluate_every": None} if plain else {}
    record, folder = tune(subject, parent, "qlora", "qlora", **changes)
    require_nf4 = packing_oracle.require_nf4
    model = dequantized(subject, parent, folder, record["train"], require_nf4)
    check_zeros(record["weights"], model, subject)
    check_parts(subject, folder, record["weights"])
    deltas = packing_oracle.read_adapter(folder / "adapter")
    masks = load_file(folder / "masks.safetensors")
    before = oracle.all_linears(subject.plain(parent), subject.blocks)
    for name, module in oracle.all_linears(model, subject.blocks).items():
        if name not in deltas:
            continue
        weight, kept = oracle.weight_of(module), oracle.weight_of(before[name]) != 0
        bits = np.unpackbits(masks[name].numpy(), axis=1, count=weight.shape[1])
        require(bool((torch.from_numpy(bits).bool() == kept).all()), f"{name}: another mask")
        weight.add_(deltas[name] * kept)
    require(any(bool(delta.any()) for delta in deltas.values()), "the adapters are all zero")
    if plain:
        check_windows(subject, folder, model, "perplexity-qlora")
        return
    rows = rows_of(subject, parent, "held", "development rows")
    found = record["train"]["dev_loss"]
    require_close("the loss after", found, oracle.mean_loss(model, rows), LOSS_TOLERANCE)
    logits_of_stored(subject, folder, model)


def pack(subject: Subject) -> None:
    """Packed and unpacked again, the files hold the same tensors in fewer bytes between."""
    weights, place = subject.sparse(), subject.scratch / "packed"
    packed_checkpoint.pack(weights, place)
    out = subject.scratch / "unpacked"
    facts = packed_checkpoint.unpack(place, out)
    found, expected = (oracle.read_files(folder) for folder in (out, weights))
    require_digest("the files", oracle.digest(found), oracle.digest(expected))
    require_digest("what was unpacked", facts["weights_sha256"], record_of(weights)["sha256"])
    window = subject.windows()[0]
    logits = [oracle.run_window(subject.plain(folder), window) for folder in (out, weights)]
    require(torch.equal(*logits), "the unpacked model computes something else")
    small, large = (
        sum(p.stat().st_size for p in f.glob("*.safetensors")) for f in (place, weights)
    )
    has_zeros = record_of(weights)["prunable_zeros"]
    require(small < large or not has_zeros, "the packed weights are not smaller")


def verify(subject: Subject) -> None:
    """The digest of the files alone is the record's, as `prunegrid verify` compares them."""
    weights = subject.sparse()
    recorded = record_of(weights)["sha256"]
    require_digest("the files", oracle.digest(oracle.read_files(weights)), recorded)
    require_digest("the files, by the library,", checkpoint.file_weights_sha256(weights), recorded)
