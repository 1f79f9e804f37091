"""The README: its own-model example runs as it stands, and its sentences are short."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys

import pytest
import torch

from prunegrid.data.sources import tiny
from tests.helpers import warm
from tests.helpers.runs import FOR_EVER, ROOT, Run
from tests.helpers.synthetic import sentence

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = TEXT[TEXT.index("## Your own model and data") :]
LONGEST = 25  # words of a sentence


def block(language: str) -> str:
    """Return the first code block of a language in the section on own models and data."""
    return re.search(rf"```{language}\n(.*?)```", SECTION, re.DOTALL)[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a file of documents and the README's ten lines."""
    folder = tmp_path_factory.mktemp("readme")
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64}
    config |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    source = {"config": config | {"max_position_embeddings": 2048}}
    for made in tiny.build(source, "causal-lm", torch.float32, "test"):
        made.save_pretrained(folder / "models/my-model")
    draw = random.Random(0)
    rows = [[sentence(draw) for _ in range(6)] for _ in range(40)]
    lines = [json.dumps({"body": " ".join(row), "abstract": row[0]}) for row in rows]
    (folder / "reports.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "mine.yaml").write_text(block("yaml"))
    return folder


def environment(place) -> dict[str, str]:
    """Return the environment of a run on a CPU that every machine can play."""
    own = warm.environment(ROOT / "workflow/lib", ONEDNN_MAX_CPU_ISA="AVX2")
    return Run(place).environment(**own)


def test_ten_lines_a_command_and_three_lines_of_python_work(place):
    assert len(block("yaml").splitlines()) == 10
    command, study, *rest = block("sh").split()[1:]
    done = subprocess.run(
        [sys.executable, "-m", "prunegrid", command, study, *rest],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=FOR_EVER,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "4 cells, 0 failed" in done.stdout and "results/mine.md" in done.stdout
    assert "prunegrid verify results/mine.parquet" in done.stdout
    steps = re.findall(r"^\[ *\d+/\d+\] .*$", done.stderr, re.MULTILINE)
    assert steps and steps[-1].endswith("(done)") and "left" in steps[0]
    before = os.getcwd()
    os.chdir(place)
    try:
        names: dict = {}
        exec(block("python"), names)
    finally:
        os.chdir(before)
    linear = names["model"].model.layers[0].mlp.up_proj.weight
    assert int((linear.view(-1, 4) != 0).sum(1).max()) == 2


def test_a_second_run_has_nothing_to_do(place):
    done = subprocess.run(
        [sys.executable, "-m", "prunegrid", "run", "mine", "-c", "mine.yaml"],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        timeout=FOR_EVER,
        check=False,
    )
    assert done.returncode == 0 and "Nothing to be done" in done.stderr
    assert "4 cells, 0 failed" in done.stdout


def test_no_sentence_is_long():
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
    prose = re.sub(r"^\|.*$|^#.*$|^!\[.*$", "", prose, flags=re.MULTILINE)
    prose = re.sub(r"\]\([^)]*\)", "]", prose)
    paragraphs = re.split(r"\n\s*\n|\n- |\n\d\. ", prose)
    sentences = [s for text in paragraphs for s in re.split(r"[.:;!?]\s+", text.replace("\n", " "))]
    assert [s for s in sentences if len(s.split()) > LONGEST] == []
