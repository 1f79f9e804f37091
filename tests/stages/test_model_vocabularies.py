"""A repository as DeBERTa-v2-xxlarge's: pickled weights, and a vocabulary of pieces alone."""

import json
from types import SimpleNamespace

import pytest
import sentencepiece
import torch
from huggingface_hub import constants
from transformers import AutoConfig, AutoModel, AutoTokenizer

from prunegrid.data.sources import hub
from prunegrid.stages import model as stage
from tests.helpers.architectures import DEBERTA_XLARGE
from tests.helpers.hub_server import hub_server

pytestmark = pytest.mark.model

REPO = "microsoft/deberta-v2-xxlarge"
TEXTS = ["word7 thing3", "Zog word21  thing9, no?", "", "thing1\nword3 "]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a hub that holds the repository, without any tokenizer.json."""
    root = tmp_path_factory.mktemp("hub")
    folder = root / "models" / REPO
    folder.mkdir(parents=True)
    lines = [
        " ".join(f"word{i * 7 % 23} thing{i % 11}" for i in range(n, n + 9)) for n in range(60)
    ]
    (root / "text").write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(root / "text"), model_prefix=str(folder / "spm"), vocab_size=26,
        model_type="unigram", minloglevel=2, pad_id=0, bos_id=1, eos_id=2, unk_id=3,
        pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
    )  # fmt: skip
    (folder / "spm.vocab").unlink()
    settings = {**DEBERTA_XLARGE, "vocab_size": 64, "pad_token_id": 0}
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model("deberta-v2", **settings))
    tensors = {f"deberta.{name}": value for name, value in model.state_dict().items()}
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "deberta-v2", **settings}))
    # As the hub has it: no class, no special tokens.
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    return root


def test_pieces_are_fetched_read_and_kept_as_a_tokenizer(world, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    out = tmp_path / "out"
    out.mkdir()
    source = {"kind": "hf", "repo": REPO, "revision": "main"}
    job = SimpleNamespace(where="models.deberta", scratch=tmp_path, device="cpu")
    with hub_server(world) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(hub, "wait", lambda seconds: None)
        stage.run({"source": source, "dtype": "float32", "task": "encoder"}, {}, out, job)
    assert (out / "tokenizer.json").is_file() and not (out / "spm.model").exists()
    kept = AutoTokenizer.from_pretrained(out)
    pieces = sentencepiece.SentencePieceProcessor(str(world / "models" / REPO / "spm.model"))
    for text in TEXTS:
        assert kept(text)["input_ids"] == [1, *pieces.encode(text), 2]
    assert (kept.pad_token_id, kept.unk_token_id, kept.mask_token_id) == (0, 3, 26)
    both = kept("word7", "thing3")
    assert both["input_ids"] == [1, *pieces.encode("word7"), 2, *pieces.encode("thing3"), 2]
    assert both["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
