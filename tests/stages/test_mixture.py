"""The stage `mixture`: no evaluated row, stated shares, one order a seed; and tuning on it."""

import re
from collections import Counter
from pathlib import Path

import pandas
import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.stages import finetune, mixture
from tests.helpers import benchmark_rows, tiny

pytestmark = pytest.mark.model

PIQA = {
    "split": "train",
    "weight": 2.0,
    "max_rows": None,
    "prompt": "Question: {{goal}}\nAnswer:",
    "response": " {{[sol1, sol2][label]}}",
    "of": "piqa",
    "id": None,
    "text": "goal",
}
SIQA = {
    **PIQA,
    "weight": 1.0,
    "prompt": "Q: {{context}} {{question}}\nA:",
    "response": " {{[answerA, answerB, answerC][label | int - 1]}}",
    "of": "siqa",
    "text": ["context", "question"],
}
SETTINGS = {
    "parts": {"piqa": PIQA, "siqa": SIQA},
    "rows": None,
    "leaks": "drop",
    "disjoint_from": [{"split": "validation", "of": "piqa", "id": None, "text": "goal"}],
    "splits": {"dev": "all[:3]", "train": "all[3:]"},
}


@pytest.fixture
def parents(tmp_path):
    """Forty rows of PIQA, of which two are evaluated under other marks, and thirty of SIQA."""
    train = benchmark_rows.piqa(40)
    asked = benchmark_rows.piqa(6, seed=9)
    asked[0] = {**asked[0], "goal": train[3]["goal"].upper() + " ?"}
    asked[4] = {**asked[4], "goal": f"  {train[17]['goal']}"}
    evaluated = benchmark_rows.artifact(tmp_path / "evaluated", validation=asked)
    return {
        "parts.piqa": benchmark_rows.artifact(tmp_path / "piqa", train=train),
        "parts.siqa": benchmark_rows.artifact(tmp_path / "siqa", train=benchmark_rows.siqa(30)),
        "disjoint_from.0": evaluated,
    }


def mix(parents, out: Path, seed: int = 3, **changes):
    """Return (record, {split: rows}) of a mixture."""
    out.mkdir()
    job = tiny.job(seed=seed)
    record = mixture.run({**SETTINGS, **changes}, parents, out, job)
    return record, {path.stem: pandas.read_parquet(path) for path in out.glob("*.parquet")}


def words_only(text):
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def test_no_row_of_an_evaluated_split_is_in_it(parents, tmp_path):
    record, splits = mix(parents, tmp_path / "out")
    rows = pandas.concat(splits.values())
    asked = pandas.read_parquet(parents["disjoint_from.0"] / "validation.parquet")["goal"]
    barred = {words_only(goal) for goal in asked}
    learned = rows[rows["task"] == "piqa"]["document"]
    assert not any(
        words_only(text).removeprefix("question ").removesuffix(" answer") in barred
        for text in learned
    )
    assert record["parts"]["piqa"]["leaked"] == {"id": 0, "text": 2}
    assert record["parts"]["piqa"]["rows"] == 40
    assert record["parts"]["siqa"]["leaked"] == {"id": 0, "text": 0}
    ids = set(rows["id"])
    assert "piqa:3" not in ids and "piqa:17" not in ids
    assert record["evaluated"] == {"splits": 1, "rows": 6}


def test_shares_and_caps_are_the_stated_ones(parents, tmp_path):
    record, splits = mix(parents, tmp_path / "out")
    count = Counter(pandas.concat(splits.values())["task"])
    assert count == {"piqa": 38, "siqa": 19}  # two to one, and 38 that are not evaluated
    assert record["parts"]["piqa"]["share"] == pytest.approx(2 / 3)
    assert {name: facts["rows"] for name, facts in record["splits"].items()} == {
        "dev": 3,
        "train": 54,
    }
    capped = {"piqa": {**PIQA, "max_rows": 10}, "siqa": SIQA}
    record, splits = mix(parents, tmp_path / "capped", parts=capped)
    assert Counter(pandas.concat(splits.values())["task"]) == {"piqa": 10, "siqa": 5}
    assert record["parts"]["piqa"]["capped"] == 10


def test_rows_are_prompts_and_responses_of_their_part(parents, tmp_path):
    _, splits = mix(parents, tmp_path / "out")
    rows = pandas.concat(splits.values()).set_index("id")
    source = benchmark_rows.siqa(30)
    of_siqa = rows[rows["task"] == "siqa"]
    assert len(of_siqa) == 19
    for name, row in of_siqa.iterrows():
        origin = source[int(name.removeprefix("siqa:"))]
        answer = origin["answer" + "ABC"[int(origin["label"]) - 1]]
        assert row["document"] == f"Q: {origin['context']} {origin['question']}\nA:"
        assert row["summary"] == f" {answer}"


def test_the_order_is_the_seeds(parents, tmp_path):
    record, first = mix(parents, tmp_path / "a")
    again, second = mix(parents, tmp_path / "b")
    _, other = mix(parents, tmp_path / "c", seed=4)
    assert record == again and first["train"].equals(second["train"])
    assert first["train"]["id"].tolist() != other["train"]["id"].tolist()
    tasks = first["train"]["task"].tolist()
    assert tasks != sorted(tasks)


def test_leaks_can_be_refused(parents, tmp_path):
    with pytest.raises(PrunegridError, match=r"2 rows of 'piqa' are evaluated \(0 by id, 2 by"):
        mix(parents, tmp_path / "out", leaks="refuse")
    clean = {"siqa": {**SIQA, "weight": None}}
    record, _ = mix(parents, tmp_path / "clean", leaks="refuse", parts=clean)
    assert record["parts"]["siqa"]["taken"] == 30


def test_fine_tuning_takes_a_mixture_like_any_data_set(tmp_path):
    """With words that the tiny tokenizer knows."""
    rows = [
        {"goal": f"w{n} w{n + 1}", "sol1": "w1", "sol2": "w2", "label": n % 2} for n in range(20)
    ]
    parents = {"parts.piqa": benchmark_rows.artifact(tmp_path / "piqa", train=rows)}
    part = {**PIQA, "weight": None, "prompt": "text : {{goal}} summary :"}
    mix(parents, tmp_path / "data", parts={"piqa": part}, disjoint_from=[])
    weights = tiny.artifact(tmp_path / "weights", "llama", "unstructured")
    out = tmp_path / "out"
    out.mkdir()
    settings = tiny.finetune("full", prompt=tiny.prompt(template="{document}"), dev_split="dev")
    record = finetune.run(
        settings, {"weights": weights, "data": tmp_path / "data"}, out, tiny.job()
    )
    assert record["train"]["rows"] == 17 and record["train"]["dev_rows"] == 3
    assert record["train"]["share_cut_context"] == 0
    assert record["train"]["zeros_filled"] == 0
