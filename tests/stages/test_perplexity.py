"""The stage `perplexity`: windows, their losses, and the weights that it names."""

import json
import math
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM

from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError, PrunegridError
from prunegrid.common.perplexity_names import metric_name
from prunegrid.data.sources.tiny import byte_tokenizer
from prunegrid.evaluation.perplexity import plan_rolling, plan_windows, window_losses
from prunegrid.models import checkpoint
from prunegrid.stages import perplexity

pytestmark = pytest.mark.model

TEXTS = ["The first document of a few.", "Another one, which is a little longer.", "A third."]
SETTINGS = {
    "split": "test",
    "column": "text",
    "protocol": "nonoverlap",
    "window": 16,
    "stride": None,
    "max_windows": None,
    "special_tokens": False,
    "cache_dequantized": False,
}


@dataclass
class Job:
    """What a stage may ask of its surroundings."""

    device: str = "cpu"
    compute_dtype: str = "float32"
    where: str = "test"


@pytest.fixture(scope="module", params=["llama", "opt"])
def parents(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("perplexity")
    size = {
        "vocab_size": 260,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    if request.param == "opt":
        size |= {"ffn_dim": 32, "word_embed_proj_dim": 16}
    else:
        size |= {"intermediate_size": 32}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(request.param, **size))
    tokenizer = byte_tokenizer(max_length=64, add_bos=True, encoder=False)
    weights, data = folder / "weights", folder / "data"
    weights.mkdir()
    data.mkdir()
    record = checkpoint.write_plain(model, tokenizer, weights, pattern=None).record
    file_io.write_json(weights / "manifest.json", {"record": {"weights": record}})
    ids = [str(i) for i in range(len(TEXTS))]
    pq.write_table(pa.table({"id": ids, "text": TEXTS}), data / "test.parquet")
    return {"weights": weights, "data": data}


def token_losses(parents, tokens):
    """The loss of every token but the first, given all tokens before it in `tokens`."""
    model = checkpoint.load(parents["weights"]).model
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0].double().log_softmax(-1)
    return [-float(logits[i, token]) for i, token in enumerate(tokens[1:])]


def text_tokens(parents):
    tokenizer = checkpoint.load(parents["weights"]).tokenizer
    return tokenizer("\n\n".join(TEXTS), add_special_tokens=False)["input_ids"]


def test_nonoverlap(parents, tmp_path):
    record = perplexity.run(SETTINGS, parents, tmp_path, Job())
    tokens = text_tokens(parents)
    count = len(tokens) // 16
    expected = [sum(token_losses(parents, tokens[16 * i : 16 * i + 16])) for i in range(count)]
    rows = pq.read_table(tmp_path / "windows.parquet").to_pydict()
    assert rows["window"] == list(range(count))
    assert rows["tokens"] == [15] * count
    assert rows["loss"] == pytest.approx(expected, rel=1e-5)
    assert record["metric"] == "ppl_16_nonoverlap"
    assert record["perplexity"] == pytest.approx(math.exp(sum(expected) / (15 * count)), rel=1e-5)
    assert (record["windows"], record["tokens"]) == (count, 15 * count)
    manifest = json.loads((parents["weights"] / "manifest.json").read_text())
    assert record["weights"] == manifest["record"]["weights"]


def test_stride_scores_each_token_once_with_its_context(parents, tmp_path):
    settings = {**SETTINGS, "protocol": "stride", "stride": 6}
    record = perplexity.run(settings, parents, tmp_path, Job())
    tokens = text_tokens(parents)
    expected, end = [], 1
    for start in range(0, len(tokens), 6):
        stop = min(start + 16, len(tokens))
        expected.append(sum(token_losses(parents, tokens[start:stop])[-(stop - end) :]))
        end = stop
        if stop == len(tokens):
            break
    rows = pq.read_table(tmp_path / "windows.parquet").to_pydict()
    assert rows["loss"] == pytest.approx(expected, rel=1e-5)
    assert record["tokens"] == sum(rows["tokens"]) == len(tokens) - 1
    assert record["metric"] == "ppl_16_stride6"


@given(
    st.integers(2, 200),
    st.sampled_from(["nonoverlap", "stride"]),
    st.integers(2, 40),
    st.integers(1, 39),
)
def test_no_token_is_scored_twice(count, protocol, window, stride):
    if protocol == "stride" and stride >= window or protocol == "nonoverlap" and count < window:
        with pytest.raises(PrunegridError):
            plan_windows(count, protocol, window, stride, None)
        return
    plan = plan_windows(count, protocol, window, stride, None)
    scored = [i for part in plan for i in range(part.end - part.scored, part.end)]
    assert len(scored) == len(set(scored))
    assert all(part.scored < part.end - part.start <= window for part in plan)
    if protocol == "stride":
        assert scored == list(range(1, count))
    else:
        assert len(plan) == count // window


def test_first_windows_only(parents, tmp_path):
    assert perplexity.run({**SETTINGS, "max_windows": 2}, parents, tmp_path, Job())["windows"] == 2


def test_the_name_says_the_protocol():
    assert metric_name("nonoverlap", 512, None, False) == "ppl_512_nonoverlap"
    assert metric_name("nonoverlap", 2048, None, False) == "ppl_2048_nonoverlap"
    assert metric_name("stride", 512, 256, False) == "ppl_512_stride256"
    assert metric_name("stride", 2048, 512, False) == "ppl_stride512"
    assert metric_name("words", 2048, None, False) == "word_perplexity"
    assert metric_name("words", 512, None, False) == "word_perplexity_512"
    assert metric_name("nonoverlap", 512, None, True) == "ppl_512_nonoverlap_special"
    assert metric_name("stride", 2048, 512, True) == "ppl_stride512_special"


@given(st.integers(2, 120), st.integers(1, 40))
def test_rolling_windows_score_each_token_once_and_fit(count, window):
    plan = plan_rolling(count, window)
    scored = [i for part in plan for i in range(part.end - part.scored, part.end)]
    assert scored == list(range(1, count))
    assert all(0 < part.scored < part.end - part.start <= window + 1 for part in plan)
    # All but the first are given as much context as fits.
    assert all(part.end - part.start == window + 1 for part in plan[1:])


def test_words_are_counted_whatever_the_tokenizer(parents, tmp_path):
    settings = {**SETTINGS, "protocol": "words", "window": 20}
    record = perplexity.run(settings, parents, tmp_path, Job())
    tokenizer = checkpoint.load(parents["weights"]).tokenizer
    losses = []
    for text in TEXTS:
        # Two of BOS, as the harness has it where the tokenizer adds one by itself.
        tokens = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]
        assert tokens[1] == tokens[0]
        total, end = sum(token_losses(parents, tokens[:21])), min(21, len(tokens))
        while end < len(tokens):
            stop = min(end + 20, len(tokens))
            total += sum(token_losses(parents, tokens[stop - 21 : stop])[-(stop - end) :])
            end = stop
        losses.append(total)
    rows = pq.read_table(tmp_path / "windows.parquet").to_pydict()
    assert rows["loss"] == pytest.approx(losses, rel=1e-5)
    assert rows["units"] == [len(text.split()) for text in TEXTS]
    words = sum(len(text.split()) for text in TEXTS)
    assert record["perplexity"] == pytest.approx(math.exp(sum(losses) / words), rel=1e-5)
    assert (record["metric"], record["unit"]) == ("word_perplexity_20", "word")


@pytest.mark.parametrize("window", [8, 20, 64])
@pytest.mark.parametrize("add_bos", [False, True])
def test_word_perplexity_is_the_harnesss(parents, tmp_path, window, add_bos):
    """Also of documents that begin with BOS as text, which gets no second one."""
    texts = [*TEXTS, "<s>A fourth.", " <s> no beginning"]
    model = checkpoint.load(parents["weights"]).model
    tokenizer = byte_tokenizer(max_length=64, add_bos=add_bos, encoder=False)
    weights, data, out = (tmp_path / name for name in ("weights", "data", "out"))
    for folder in (weights, data, out):
        folder.mkdir()
    record = checkpoint.write_plain(model, tokenizer, weights, pattern=None).record
    file_io.write_json(weights / "manifest.json", {"record": {"weights": record}})
    ids = [str(i) for i in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": texts}), data / "test.parquet")
    settings = {**SETTINGS, "protocol": "words", "window": window}
    found = perplexity.run(settings, {"weights": weights, "data": data}, out, Job())
    harness = HFLM(pretrained=model, tokenizer=tokenizer, max_length=window, backend="causal")
    asked = [Instance("loglikelihood_rolling", {}, (text,), 0, ("t", 0, 1)) for text in texts]
    losses = harness.loglikelihood_rolling(asked, disable_tqdm=True)
    rows = pq.read_table(out / "windows.parquet").to_pydict()
    assert rows["loss"] == pytest.approx([-loss for loss in losses], rel=1e-5)
    words = sum(len(text.split(" ")) for text in texts)
    assert found["perplexity"] == pytest.approx(math.exp(-sum(losses) / words), rel=1e-5)


def test_special_tokens_come_once_before_the_text(parents, tmp_path):
    record = perplexity.run({**SETTINGS, "special_tokens": True}, parents, tmp_path, Job())
    assert record["text_tokens"] == len(text_tokens(parents)) + 1
    assert record["metric"] == "ppl_16_nonoverlap_special"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"window": 65}, "at most the model's 64 positions"),
        ({"window": 64, "column": "id"}, "test: the text has 7 tokens"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"column": "document"}, "no column 'document'"),
        ({"protocol": "stride", "stride": 16}, "stride < window"),
        ({"protocol": "overlap"}, "nonoverlap, stride or words"),
    ],
)
def test_refused(parents, tmp_path, change, said):
    with pytest.raises(PrunegridError, match=said):
        perplexity.run({**SETTINGS, **change}, parents, tmp_path, Job())


def test_swapped_weights_are_noticed(parents, tmp_path):
    copy = tmp_path / "weights"
    copy.mkdir()
    for path in parents["weights"].iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["record"]["weights"]["prunable_zeros"] = 5
    file_io.write_json(copy / "manifest.json", manifest)
    with pytest.raises(AttestationError, match="prunable_zeros"):
        perplexity.run(SETTINGS, {**parents, "weights": copy}, tmp_path, Job())


def test_a_nan_loss_names_its_window(parents):
    model = checkpoint.load(parents["weights"]).model
    with torch.no_grad():
        next(model.parameters())[5] = float("nan")
    tokens = [7] * 8 + [5] * 8
    with pytest.raises(PrunegridError, match="loss of window"):
        window_losses(model, tokens, plan_windows(16, "nonoverlap", 8, None, None), "here")
