"""The repositories of the tests' hub: small models and data sets under the real ones' names."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pyarrow
import pyarrow.parquet
import torch

from tests.helpers import synthetic

VOCABULARY = 640
OPT = {
    "activation_function": "relu",
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 1,
    "dropout": 0.1,
    "hidden_size": 32,
    "ffn_dim": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 2048,
    "vocab_size": VOCABULARY,
}
PRE_NORM = OPT | {"word_embed_proj_dim": 32, "do_layer_norm_before": True}
POST_NORM = OPT | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}
# As many layers as the real one, of which BERTScore reads the 17th.
ROBERTA = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 24,
    "max_position_embeddings": 514,
    "type_vocab_size": 1,
    "vocab_size": VOCABULARY + 1,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
}
BILLS = """license: cc0-1.0
task_categories: [summarization]
configs:
- config_name: default
  data_files:
  - {split: train, path: data/train-*}
  - {split: test, path: data/test-*}
  - {split: ca_test, path: data/ca_test-*}
"""
C4 = """license: odc-by
configs:
- config_name: en
  data_files:
  - {split: train, path: en/c4-train.*.json.gz}
  - {split: validation, path: en/c4-validation.*.json.gz}
"""


WIKITEXT = """license: cc-by-sa-3.0
configs:
- config_name: wikitext-2-raw-v1
  data_files:
  - {split: test, path: wikitext-2-raw-v1/test-*}
  - {split: train, path: wikitext-2-raw-v1/train-*}
"""


def build(root: Path, train: int = 48, test: int = 8, ca_test: int = 6, texts: int = 64) -> Path:
    """Return `root` after making every repository that the config's `table3` study asks for.

    Args:
        root: the folder that `hub_server` serves.
        train, test, ca_test: rows of the bills' splits.
        texts: rows of C4; every fourth is longer than a calibration sample.
    """
    words = " ".join(row["text"] for row in synthetic.bills(200, seed=9))
    vocabulary, merges = train_tokenizer(words)
    opt(root / "models/facebook/opt-125m", PRE_NORM, vocabulary, merges, prefix="model.")
    opt(root / "models/facebook/opt-350m", POST_NORM, vocabulary, merges, prefix="")
    safe = root / "models/tests/opt-safetensors"
    opt(safe, PRE_NORM, vocabulary, merges, prefix="model.", form="safetensors")
    roberta(root / "models/FacebookAI/roberta-large", vocabulary, merges)
    shutil.copytree(root / "models/FacebookAI/roberta-large", root / "models/roberta-large")
    billsum(root / "datasets/FiscalNote/billsum", train, test, ca_test)
    c4(root / "datasets/allenai/c4", texts)
    wikitext(root / "datasets/Salesforce/wikitext")
    return root


def train_tokenizer(words: str) -> tuple[dict[str, int], list[str]]:
    """Return (vocabulary, merges) of a byte-level BPE with OPT's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator([words], trainer)
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [" ".join(pair) for pair in model["merges"]]


def write_tokenizer(folder: Path, vocabulary: dict, merges: list[str], settings: dict) -> None:
    """Write a tokenizer in the old form: vocab.json, merges.txt and their settings."""
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    roles = {role: token for role, token in settings.items() if role.endswith("_token")}
    texts = {role: token for role, token in roles.items() if isinstance(token, str)}
    (folder / "special_tokens_map.json").write_text(json.dumps(texts))


def drawn(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model with biases and norms drawn too, so that mistakes in them show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def opt(
    folder: Path,
    settings: dict,
    vocabulary: dict,
    merges: list[str],
    prefix: str,
    form: str = "pickled",
) -> None:
    """Make a small OPT in a repository as the real ones are: half precision, old file names.

    Args:
        folder: of the repository.
        settings: of the config.
        vocabulary, merges: of the tokenizer.
        prefix: "model." or "": both are found in the real files.
        form: "pickled" or "safetensors".
    """
    from transformers import OPTConfig, OPTForCausalLM

    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(len(prefix) + 1)
        model = drawn(OPTForCausalLM(OPTConfig(**settings))).half()
    tensors = {name.removeprefix("model."): value for name, value in model.state_dict().items()}
    tensors = {prefix + n if n != "lm_head.weight" else n: v for n, v in tensors.items()}
    if form == "pickled":
        torch.save(tensors, folder / "pytorch_model.bin")
        (folder / "tf_model.h5").write_bytes(b"not asked for")
    else:
        model.save_pretrained(folder)
    architecture = {"architectures": ["OPTForCausalLM"], "model_type": "opt"}
    (folder / "config.json").write_text(json.dumps(architecture | settings | {"dtype": "float16"}))
    ids = {name: settings[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    (folder / "generation_config.json").write_text(json.dumps({"_from_model_config": True} | ids))
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    write_tokenizer(
        folder,
        vocabulary,
        merges,
        special
        | {"errors": "replace", "add_bos_token": True, "add_prefix_space": False}
        | {"tokenizer_class": "GPT2Tokenizer"},
    )
    (folder / "README.md").write_text("---\nlicense: other\n---\nA small model for tests.\n")


def roberta(folder: Path, vocabulary: dict, merges: list[str]) -> None:
    """Make a small RoBERTa with its language head and without a pooler."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        drawn(RobertaForMaskedLM(RobertaConfig(**ROBERTA))).save_pretrained(folder)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    special |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
    settings = special | {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}
    write_tokenizer(folder, vocabulary | {"<mask>": VOCABULARY}, merges, settings)
    (folder / "README.md").write_text("---\nlicense: mit\n---\nA small encoder for tests.\n")


def billsum(folder: Path, train: int, test: int, ca_test: int) -> None:
    """Make a data set in BillSum's shape."""
    (folder / "data").mkdir(parents=True)
    counts = {"train": train, "test": test, "ca_test": ca_test}
    for seed, (split, count) in enumerate(counts.items()):
        table = pyarrow.Table.from_pylist(synthetic.bills(count, seed))
        path = folder / f"data/{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(table, path)
    (folder / "README.md").write_text(f"---\n{BILLS}---\nSynthetic bills for tests.\n")


def wikitext(folder: Path) -> None:
    """Make a data set in WikiText-2's shape: a row a line, headings and empty lines among them."""
    (folder / "wikitext-2-raw-v1").mkdir(parents=True)
    for seed, split in enumerate(("test", "train")):
        lines = []
        for number, text in enumerate(synthetic.articles(6, seed=seed + 5)):
            lines += ["", f" = Article {number} = \n", "", f" {text} \n"]
        table = pyarrow.Table.from_pydict({"text": lines})
        name = f"wikitext-2-raw-v1/{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(table, folder / name)
    (folder / "README.md").write_text(f"---\n{WIKITEXT}---\nSynthetic articles for tests.\n")


def c4(folder: Path, count: int) -> None:
    """Make a data set in C4's shape: many shards are named, one is there."""
    (folder / "en").mkdir(parents=True)
    rows = [
        json.dumps({"text": text, "timestamp": "2019-04-25T12:57:54Z", "url": f"https://e.org/{i}"})
        for i, text in enumerate(synthetic.articles(count, seed=3))
    ]
    packed = gzip.compress(("\n".join(rows) + "\n").encode(), mtime=0)
    (folder / "en/c4-train.00000-of-01024.json.gz").write_bytes(packed)
    (folder / "README.md").write_text(f"---\n{C4}---\nSynthetic pages for tests.\n")
