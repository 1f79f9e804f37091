"""Controls, and the stage that writes and scores them."""

from __future__ import annotations

import importlib
import random
from collections import Counter
from itertools import combinations
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from prunegrid.common.determinism import derived_seed
from prunegrid.common.errors import PrunegridError
from prunegrid.common.plugins import baseline_facts
from prunegrid.common.source_code import LIBRARY, literals
from prunegrid.evaluation import predictions_file
from prunegrid.evaluation.baselines import greedy_extract, lead, other_reference, shuffled_reference
from prunegrid.evaluation.text_analysis.words import split_sentences, words
from prunegrid.stages import controls, scores

PROMPT = {"template": "### In:\n{document}\n### Out:\n", "max_words": 2}
FILES = sorted((LIBRARY / "prunegrid/evaluation" / "baselines").glob("[!_]*.py"))


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "document": ["one  two\nthree four", "five", " six seven eight "],
            "summary": ["s1", "s2", "s3"],
        }
    )
    frame.to_parquet(folder / "test.parquet")
    return folder


def references(count: int) -> pd.DataFrame:
    """Return rows of documents and references of several words."""
    draw = random.Random(0)
    rows = [
        {"id": f"e{i}", "summary": " ".join(f"w{draw.randrange(40)}" for _ in range(12))}
        for i in range(count)
    ]
    return pd.DataFrame(rows).assign(document="Some text. Other text.")


def write(data, out, *listed, split="test", rows=None, by=None):
    """Write controls to `out`, each a method with its settings; return {folder: record}.

    Args:
        by: the settings of their scores.
    """
    out.mkdir()
    settings = {"documents": {"split": split, "rows": rows}, "controls": []}
    settings |= by or {"metrics": {"length": {}}}
    for method, given in listed:
        read = {"prompt": given["prompt"]} if "prompt" in given else {}
        own = {key: value for key, value in given.items() if key != "prompt"}
        settings["controls"].append({"method": method, "settings": own, **read})
    job = SimpleNamespace(device="cpu", where="", seed=lambda what: derived_seed(5, what))
    return controls.run(settings, {"data": data}, out, job)["parts"]


def run(data, tmp_path, name="out", method="lead", split="test", rows=None, **settings):
    """Write one control; return its record and its file of texts."""
    parts = write(data, tmp_path / name, (method, settings), split=split, rows=rows)
    return parts[f"0-{method}"], tmp_path / name / f"0-{method}" / predictions_file.NAME


def test_lead_takes_the_first_words_of_each_document(data, tmp_path):
    record, path = run(data, tmp_path, words=3)
    table = pq.read_table(path)
    assert table.schema.equals(predictions_file.SCHEMA)
    assert table["prediction"].to_pylist() == ["one two three", "five", "six seven eight"]
    assert table["reference"].to_pylist() == ["s1", "s2", "s3"]
    assert all(table[column].null_count == 3 for column in predictions_file.GENERATED)
    assert record["n"] == record["summary"]["length_ratio"]["n"] == 3


def test_the_file_has_the_same_bytes_again(data, tmp_path):
    first, second = (run(data, tmp_path, name, words=2)[1] for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_controls_of_one_job_are_folders_with_what_each_alone_would_be(data, tmp_path):
    listed = [("lead", {"words": 1}), ("shuffled_reference", {}), ("lead", {"words": 2})]
    by = {"metrics": {"copying": {}, "echo": {}}, "split": "test", "template": "{document}"}
    parts = write(data, tmp_path / "out", *listed, by=by)
    assert list(parts) == ["0-lead", "1-shuffled_reference", "2-lead"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(parts)
    for place, (folder, (method, settings)) in enumerate(zip(parts, listed, strict=True)):
        own = tmp_path / "out" / folder
        _, alone = run(data, tmp_path, f"alone{place}", method, **settings)
        assert (own / predictions_file.NAME).read_bytes() == alone.read_bytes()
        (tmp_path / folder).mkdir()
        parents, job = {"predictions": own, "data": data}, SimpleNamespace(device="cpu")
        assert parts[folder] == scores.run(by, parents, tmp_path / folder, job)
        found, scored = (p / "scores.parquet" for p in (own, tmp_path / folder))
        assert found.read_bytes() == scored.read_bytes()


def test_a_control_draws_by_the_seed_and_its_method(data, tmp_path):
    frame = pd.read_parquet(data / "test.parquet").assign(summary="one two three four five six")
    frame.to_parquet(data / "test.parquet")
    _, path = run(data, tmp_path, method="shuffled_reference")
    seed = derived_seed(5, "baseline shuffled_reference")
    wanted = shuffled_reference.predict(frame, {}, seed)
    assert pq.read_table(path)["prediction"].to_pylist() == wanted


def test_rows_are_the_first_of_the_split(data, tmp_path):
    record, path = run(data, tmp_path, words=1, rows=2)
    assert pq.read_table(path)["id"].to_pylist() == ["a", "b"]
    assert record["n"] == 2


def test_words_left_out_have_the_default(data, tmp_path):
    frame = pd.read_parquet(data / "test.parquet").assign(document="w " * 500)
    frame.to_parquet(data / "test.parquet")
    _, path = run(data, tmp_path, words=None)
    lengths = {len(text.split()) for text in pq.read_table(path)["prediction"].to_pylist()}
    assert lengths == {lead.SETTINGS["words"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lede"}, "no baseline 'lede'"),
        ({"method": "../lead"}, "no baseline"),
        ({"split": "dev"}, "no split 'dev'.*test"),
        ({"words": 0}, "words is 0"),
        ({"words": 2.5}, "words is 2.5"),
    ],
)
def test_unknown_names_and_bad_settings_are_errors(data, tmp_path, settings, message):
    with pytest.raises(PrunegridError, match=message):
        run(data, tmp_path, **settings)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_baseline_is_one_file_that_gives_a_text_a_row(path, data):
    rows = pd.read_parquet(data / "test.parquet")
    module = importlib.import_module(f"prunegrid.evaluation.baselines.{path.stem}")
    declared = literals(path)
    assert declared["SETTINGS"] == module.SETTINGS
    assert declared["ROLE"] == module.ROLE in ("baseline", "oracle", "gaming")
    assert set(declared.get("READS", ())) <= {"prompt"}
    texts = module.predict(rows, {**module.SETTINGS, "prompt": PROMPT}, 0)
    assert texts == module.predict(rows, {**module.SETTINGS, "prompt": PROMPT}, 0)
    drawn = [
        module.predict(references(30), {**module.SETTINGS, "prompt": PROMPT}, s) for s in (0, 1)
    ]
    assert (drawn[0] != drawn[1]) == baseline_facts(path.stem)["DRAWS"]
    assert len(texts) == len(rows)
    assert all(isinstance(text, str) for text in texts)


def test_a_derangement_gives_each_reference_to_another_row():
    rows = references(17)
    own = rows["summary"].to_list()
    for seed in range(30):
        found = other_reference.predict(rows, {}, seed)
        assert sorted(found) == sorted(own)
        assert all(text != mine for text, mine in zip(found, own, strict=True))
    with pytest.raises(PrunegridError, match="no other document"):
        other_reference.predict(rows.iloc[:1], {}, 0)


def test_shuffled_words_are_the_references_own_whatever_the_other_rows():
    rows = references(9)
    found = shuffled_reference.predict(rows, {}, 4)
    for text, mine in zip(found, rows["summary"], strict=True):
        assert text != mine and Counter(text.split()) == Counter(mine.split())
    assert shuffled_reference.predict(rows.iloc[3:5], {}, 4) == found[3:5]
    one = rows.iloc[:1].assign(summary="alone")
    assert shuffled_reference.predict(one, {}, 4) == ["alone"]


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("half_reference", {}, "One two."),
        ("half_reference", {"share": 1}, "One two. Three"),
        ("repeated_sentence", {"times": 2}, "One two. One two."),
        ("prompt_echo", {"prompt": PROMPT}, "### In:\none  two\n### Out:"),
        ("prompt_echo", {"prompt": PROMPT, "words": 3}, "### In:\none"),
    ],
)
def test_controls_write_what_they_say(data, tmp_path, name, settings, text):
    frame = pd.read_parquet(data / "test.parquet").assign(summary="One two. Three")
    frame.to_parquet(data / "test.parquet")
    _, path = run(data, tmp_path, method=name, **settings)
    assert pq.read_table(path)["prediction"][0].as_py() == text
    assert baseline_facts(name)["ROLE"] != "baseline"


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("half_reference", {"share": 0}, "share is 0"),
        ("repeated_sentence", {"times": 1}, "times is 1"),
        ("prompt_echo", {"prompt": PROMPT, "words": 0}, "words is 0"),
        ("greedy_extract", {"sentences": 0}, "sentences is 0"),
    ],
)
def test_controls_refuse_settings_that_make_no_sense(data, tmp_path, name, settings, message):
    with pytest.raises(PrunegridError, match=message):
        run(data, tmp_path, method=name, **settings)


def overlap(sentences: list[str], reference: str) -> float:
    """Return ROUGE-1 F + ROUGE-2 F by counting, bigrams within sentences."""
    total = 0.0
    for size in (1, 2):
        grams = []
        for parts in (sentences, split_sentences(reference)):
            found = [words(part) for part in parts]
            grams.append(
                Counter(tuple(w[i : i + size]) for w in found for i in range(len(w) - size + 1))
            )
        hits, both = (grams[0] & grams[1]).total(), grams[0].total() + grams[1].total()
        total += 2 * hits / both if both else 0.0
    return total


def test_the_greedy_oracle_takes_the_best_sentence_and_stops_where_none_helps():
    draw, vocabulary = random.Random(1), [f"w{i}" for i in range(12)]
    for _ in range(25):
        parts = [" ".join(draw.choices(vocabulary, k=5)).capitalize() + "." for _ in range(5)]
        reference = " ".join(draw.choices(vocabulary, k=9))
        rows = pd.DataFrame({"document": [" ".join(parts)], "summary": [reference]})
        one = greedy_extract.predict(rows, {"sentences": 1}, None)[0].splitlines()
        many = greedy_extract.predict(rows, {"sentences": None}, None)[0].splitlines()
        best = max(overlap([part], reference) for part in parts)
        if best == 0:
            assert one == many == []
            continue
        assert overlap(one, reference) == pytest.approx(best)
        assert many == [part for part in parts if part in many]  # the document's order
        reached = overlap(many, reference)
        assert best <= reached + 1e-12
        rest = [part for part in parts if part not in many]
        assert all(overlap([*many, part], reference) <= reached + 1e-12 for part in rest)
        every = [overlap(list(c), reference) for n in range(1, 6) for c in combinations(parts, n)]
        assert reached <= max(every) + 1e-12
        assert reached >= 0.8 * max(every)


def every_round(parts: list[str], reference: str) -> list[str]:
    """Return the greedy choice by scoring every sentence anew in each round."""
    chosen, best = [], 0.0
    while rest := [part for part in parts if part not in chosen]:
        score, place = max((overlap([*chosen, part], reference), -i) for i, part in enumerate(rest))
        if score <= best:
            break
        best, chosen = score, [*chosen, rest[-place]]
    return [part for part in parts if part in chosen]


def test_the_greedy_oracle_chooses_as_if_every_round_scored_every_sentence():
    draw = random.Random(3)
    for _ in range(60):
        letters = ["aa", "bb", "cc", "dd", "ee", "ff"][: draw.randint(2, 6)]
        sentences = {
            "".join(draw.choices(letters, k=2)).capitalize()
            + " "
            + " ".join(draw.choices(letters, k=draw.randint(1, 9)))
            + "."
            for _ in range(12)
        }
        parts = sorted(sentences)
        reference = " ".join(draw.choices(letters, k=draw.randint(1, 40))).capitalize() + "."
        rows = pd.DataFrame({"document": [" ".join(parts)], "summary": [reference]})
        found = greedy_extract.predict(rows, {"sentences": None}, None)[0].splitlines()
        assert found == every_round(parts, reference)


def test_a_document_without_the_references_words_gives_an_empty_extract():
    rows = pd.DataFrame({"document": ["One two. Three."], "summary": ["x y"]})
    assert greedy_extract.predict(rows, {"sentences": None}, None) == [""]
