"""The part on samples: the same documents side by side, labelled, escaped and cut."""

import re

import pandas
import pytest

from prunegrid.evaluation import predictions_file
from prunegrid.tables import examples
from prunegrid.tables.page.parts import samples
from tests.helpers.page_world import facts

DOCUMENTS = pandas.DataFrame({"id": ["1", "2"], "document": ["<one> &", "two"]})


def scored(folder, name, texts, label="none", kind="cell", seed=None):
    """Return an entry of what a model wrote for two documents."""
    own = folder / f"{kind}-{name.replace('/', '-')}-{seed}"
    own.mkdir()
    columns = {column: [None, None] for column in predictions_file.GENERATED}
    columns |= {"id": ["1", "2"], "reference": ["first", "second"], "prediction": texts}
    predictions_file.write(columns, own)
    scores = pandas.DataFrame({"id": ["1", "2"], "rouge1": [0.5, 0.25]})
    if label:
        scores["label_loop"] = float(label == "loop")
        scores["label_none"] = float(label == "none")
    DOCUMENTS.to_parquet(folder / "test.parquet")
    return examples.Scored(kind, name, "d", seed, "test", scores, own, folder / "test.parquet")


def cards(part):
    """Return (title, about, text, has a fault) of every card."""
    pattern = r"<article(.*?)><h4>(.*?)</h4><p>(.*?)</p><pre>(.*?)</pre></article>"
    return [(t, a, x, "fault" in f) for f, t, a, x in re.findall(pattern, part.html, re.DOTALL)]


def test_dense_pruned_and_tuned_stand_beside_document_and_reference(tmp_path):
    entries = [
        scored(tmp_path, "m / w50 / lora", ["tuned", "b"]),
        scored(tmp_path, "m / w50 / none", ["pruned", "b"], "loop"),
        scored(tmp_path, "m / dense / none", ["dense", "b"]),
        scored(tmp_path, "lead", ["lead", "b"], kind="baseline"),
    ]
    shown = cards(samples.part(facts([], scored=entries)))
    assert [text for _, _, text, _ in shown[:6]] == [
        "&lt;one&gt; &amp;", "first", "dense", "pruned", "tuned", "lead"
    ]  # fmt: skip
    assert [about for _, about, _, _ in shown[2:6]] == [
        "dense, label none, rouge1 0.500", "pruned, label loop, rouge1 0.500",
        "pruned and tuned, label none, rouge1 0.500", "control, label none, rouge1 0.500",
    ]  # fmt: skip
    assert [fault for *_, fault in shown[:6]] == [False, False, False, True, False, False]


def test_a_cell_without_labels_has_none(tmp_path):
    shown = cards(
        samples.part(facts([], scored=[scored(tmp_path, "m / dense / none", ["a", "b"], "")]))
    )
    assert shown[2][1:] == ("dense, rouge1 0.500", "a", False)


def test_what_models_write_is_text(tmp_path):
    text = "<script>alert(1)</script>\n```"
    part = samples.part(facts([], scored=[scored(tmp_path, "m / <b> / none", [text, ""])]))
    assert "<script" not in part.html and "<b>" not in part.html
    assert [text for _, _, text, _ in cards(part)][5] == "(nothing)"


@pytest.mark.parametrize("text", ["word " * 1000, "x" * 100_000])
def test_long_texts_are_cut(tmp_path, text):
    part = samples.part(facts([], scored=[scored(tmp_path, "m / dense / none", [text, "b"])]))
    assert len(part.html) < 6000 and "[…" in part.html


def test_of_many_cells_some_of_each_kind_are_shown_and_the_rest_is_said(tmp_path):
    entries = [scored(tmp_path, f"m / w50 / lora{i}", ["a", "b"]) for i in range(20)]
    entries += [scored(tmp_path, "m / dense / none", ["dense", "b"])]
    part = samples.part(facts([], scored=entries))
    assert len(cards(part)) == 2 * (2 + samples.OUTPUTS)
    assert "dense" in part.html and "9 more outputs" in part.html and "s.examples.md" in part.html


def test_documents_beyond_the_size_are_left_out(tmp_path, monkeypatch):
    entry = scored(tmp_path, "m / dense / none", ["a" * 300, "b" * 300])
    monkeypatch.setattr(samples, "BYTES", 900)
    part = samples.part(facts([], scored=[entry]))
    assert len(cards(part)) == 3 and "1 more documents" in part.html


def test_a_study_without_texts_has_no_such_part():
    assert samples.part(facts([])) is None
