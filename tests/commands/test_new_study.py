"""`prunegrid init`: a file that the loader takes, by the kind of data that is found in it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import save_file

from prunegrid.commands import cli, cli_config
from prunegrid.config.grid import expand

MODEL = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
BERT = {"model_type": "bert", "architectures": ["BertModel"]}
ROWS = {
    "pairs.jsonl": {"body": "a long report", "abstract": "short"},
    "labelled.jsonl": {"text": "a report", "label": "good"},
    "plain.jsonl": {"content": "a report"},
    "odd.jsonl": {"one": "a report", "two": "x"},
}


@pytest.fixture(autouse=True)
def inputs(tmp_path, monkeypatch):
    """Folders of two models, and data files of four kinds, in the folder of the run."""
    monkeypatch.chdir(tmp_path)
    for name, config in (("llama", MODEL), ("bert", BERT)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "model.safetensors").write_bytes(b"")
    long = "a sentence of seven words or so. " * 20
    for name, row in ROWS.items():
        second = row | {"label": "bad"} if "label" in row else row
        rows = [each | {"more": long} for each in (row, second)]
        (tmp_path / name).write_text("".join(json.dumps(each) + "\n" for each in rows))
    (tmp_path / "notes.txt").write_text(f"{long}\n\n{long}\n")
    (tmp_path / "table.csv").write_text(f"article,highlights\n{long},short\n")
    return tmp_path


def init(*words):
    return cli.main(["init", *words])


def made(name="mine"):
    """Return (config, study) of the written file."""
    config, _ = cli_config.validated([Path(f"{name}.yaml")])
    return config, config.profile("studies", name)


@pytest.mark.parametrize(
    ("data", "kind", "evaluations"),
    [
        ("pairs.jsonl", "summaries", ["my-text", "my-summaries"]),
        ("table.csv", "summaries", ["my-text", "my-summaries"]),
        ("plain.jsonl", "text", ["my-text"]),
        ("notes.txt", "text", ["my-text"]),
        ("labelled.jsonl", "text", ["my-text", "my-questions"]),
    ],
)
def test_the_columns_tell_what_is_measured(inputs, data, kind, evaluations, capsys):
    assert init("--model", "llama", "--data", data) == 0
    config, study = made()
    assert config.profile("datasets", study.dataset).kind == kind
    assert study.evaluations == evaluations
    assert len(expand(config, "mine")) == 4
    assert "prunegrid run mine -c mine.yaml" in capsys.readouterr().out
    head = (inputs / "mine.yaml").read_text().splitlines()[0]
    assert head.startswith("# yaml-language-server: $schema=")
    schema = (inputs / head.partition("=")[2]).resolve()
    assert schema == cli_config.ROOT / "config/schema.json"


def test_an_encoder_is_asked_for_labels():
    assert init("--model", "bert", "--data", "labelled.jsonl", "--out", "classes.yaml") == 0
    config, study = made("classes")
    assert config.profile("models", "my-model").task in ("encoder", "masked-lm")
    assert config.profile("evaluations", study.evaluations[0]).kind == "classification"


@pytest.mark.parametrize(
    "more",
    [
        ["--method", "magnitude", "--finetune", "none"],
        ["--method", "sparsegpt", "--pattern", "unstructured", "--sparsity", "0.7"],
        ["--method", "wanda", "--pattern", "structured", "--finetune", "full"],
        ["--method", "reap", "--pattern", "structured"],
        ["--finetune", "quantize", "--method", "ria"],
    ],
)
def test_methods_patterns_and_recoveries_fit_together(more, capsys):
    status = init("--model", "llama", "--data", "pairs.jsonl", *more)
    if "quantize" in more:  # which wants a precision
        assert status == 1 and "precision" in capsys.readouterr().err
    else:
        assert status == 0
        prune = made()[0].profile("prune", "my-pruning")
        assert prune.method == more[1] or prune.method == "magnitude"


def test_the_demo_s_model_and_data_are_named_and_not_defined_again():
    assert init("--model", "demo", "--data", "demo") == 0
    config, study = made()
    assert study.grid["model"] == "smollm2-135m" and study.dataset == "aclsum"
    assert "my-model" not in config.sections["models"]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["--model", "llama", "--data", "odd.jsonl"], "--columns"),
        (["--model", "lama", "--data", "notes.txt"], "did you mean llama?"),
        (["--model", "nope", "--data", "notes.txt"], " demo, "),
        (["--model", "nope", "--data", "notes.txt"], "smollm2-135m"),
        (["--model", "llama", "--data", "notes.txt", "--method", "wnda"], "wanda"),
        (["--model", "bert", "--data", "notes.txt"], "label"),
        (["--model", "llama"], "--data"),
        (["--model", "llama", "--data", "odd.jsonl", "--columns", "one"], "--columns"),
    ],
)
def test_what_cannot_be_told_is_said_and_no_file_is_left(inputs, words, word, capsys):
    assert init(*words) == 1
    assert word in capsys.readouterr().err
    assert not (inputs / "mine.yaml").exists()


def test_data_that_is_too_short_for_a_window_is_refused(inputs, capsys):
    (inputs / "notes.txt").write_text("one\n\ntwo\n")
    assert init("--model", "llama", "--data", "notes.txt") == 1
    assert "hold at most" in capsys.readouterr().err


def test_named_columns_win():
    words = ["--columns", "document=one", "summary=two"]
    assert init("--model", "llama", "--data", "odd.jsonl", *words) == 0
    columns = made()[0].profile("datasets", "my-data").columns
    assert columns == {"document": "one", "summary": "two"}


def test_a_file_that_is_there_stays_as_it_is(inputs, capsys):
    (inputs / "mine.yaml").write_text("seed: 1\n")
    assert init("--model", "llama", "--data", "notes.txt") == 1
    assert "mine.yaml" in capsys.readouterr().err
    assert (inputs / "mine.yaml").read_text() == "seed: 1\n"


def test_what_no_option_says_is_asked_at_a_terminal(monkeypatch):
    class Terminal(StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal("llama\nnotes.txt\n"))
    assert init() == 0
    assert made()[1].dataset == "my-data"


def test_what_is_known_of_the_models_size_is_written(inputs):
    save_file({"w": numpy.zeros((30, 40), numpy.float32)}, inputs / "llama/model.safetensors")
    assert init("--model", "llama", "--data", "plain.jsonl", "--out", "mine.yaml") == 0
    assert "1,200 parameters" in Path("mine.yaml").read_text()
    made()
    assert init("--model", "hf:some/model", "--data", "plain.jsonl", "--out", "other.yaml") == 0
    assert "parameters: 1.3e+9" in Path("other.yaml").read_text()
