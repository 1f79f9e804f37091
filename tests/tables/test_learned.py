"""Scored texts that were learned: their share, from the data that the plan of a table names."""

import pandas
import pytest

from prunegrid.graph.artifact_graph import Graph
from prunegrid.tables import schema
from prunegrid.tables.files import typed_frame
from prunegrid.tables.learned import learned_shares
from prunegrid.tables.render import render_markdown
from prunegrid.tables.table_plan import study_plan
from tests.helpers import shipped
from tests.helpers.shipped import ROOT, check

PLAN = {"means": {}}


def texts(folder, split, rows, columns="document"):
    """Write the texts of a split; return where they stand, as a plan does."""
    folder.mkdir(exist_ok=True)
    names = columns if isinstance(columns, list) else [columns]
    frame = pandas.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
    frame.to_parquet(folder / f"{split}.parquet")
    return {"data": {"path": str(folder)}, "split": split, "columns": columns, "rows": None}


def share(scored, *learned, heads=()):
    cell = {"learned": list(learned), "scored": {"s": {"texts": scored, "heads": list(heads)}}}
    return learned_shares(PLAN, cell)["s"]


def test_the_share_is_that_of_the_characters_of_learned_texts(tmp_path):
    asked = texts(tmp_path / "a", "test", [["aaaa bbbb"], ["cc"], ["dddddddd"], [" - "]])
    other = texts(tmp_path / "b", "anything", [["xx"], ["AAAA,  bbbb!"], ["ccc"]], "text")
    assert share(asked, other) == pytest.approx(9 / 19)
    assert share(asked, texts(tmp_path / "c", "train", [["dd dd"]])) == 0
    assert share(asked, other, texts(tmp_path / "d", "x", [["cc"]])) == pytest.approx(11 / 19)
    assert share(asked | {"rows": 1}, other) == 1
    assert share(asked, other | {"rows": 1}) == 0


def test_texts_of_several_columns_are_compared_as_one(tmp_path):
    asked = texts(tmp_path / "a", "test", [["q one", "x"], ["q two", "y"]], ["question", "answer"])
    assert share(asked, texts(tmp_path / "b", "train", [["Q one: x"]])) == pytest.approx(0.5)
    head = texts(tmp_path / "a", "train", [["q two", "y"]], ["question", "answer"])
    assert share(asked, heads=[head]) == pytest.approx(0.5)


def test_nothing_is_said_where_nothing_was_learned_or_a_data_set_is_gone(tmp_path):
    asked = texts(tmp_path / "a", "test", [["a"]])
    assert share(asked) is None
    assert share(asked, asked | {"data": {"path": str(tmp_path / "gone")}}) is None
    assert share(texts(tmp_path / "b", "test", [["..."]]), asked) is None


def test_a_mean_over_tasks_has_the_mean_of_their_shares(tmp_path):
    asked = texts(tmp_path / "a", "test", [["aa"], ["bb"]])
    learned = texts(tmp_path / "b", "train", [["aa"]])
    scored = {
        "one": {"texts": asked, "heads": []},
        "two": {"texts": asked | {"rows": 1}, "heads": []},
    }
    plan = {"means": {"both": {"tasks": ["one", "two"]}, "none": {"tasks": ["one", "other"]}}}
    shares = learned_shares(plan, {"learned": [learned], "scored": scored})
    assert shares == {"one": 0.5, "two": 1.0, "both": 0.75, "none": None}


@pytest.fixture(scope="module")
def graph():
    return Graph(check(shipped.config()), ROOT)


def test_a_plan_names_all_that_changes_weights_and_all_that_is_scored(graph):
    cells = {}
    for cell in study_plan(graph, "demo", ROOT)["cells"]:
        cells[cell["columns"]["prune"], cell["columns"]["finetune"]] = cell
    dense = cells["dense", "none"]
    tuned = next(c for (p, f), c in cells.items() if p != "dense" and f != "none")
    assert dense["learned"] == [] and set(dense["scored"]) == {"test", "wikipedia-128"}
    assert [(t["split"], t["columns"], t["use"]) for t in tuned["learned"]] == [
        ("calibration", "text", "calibrated"),
        ("train", "document", "tuned"),
    ]
    scored = {name: each["texts"] for name, each in tuned["scored"].items()}
    assert scored["test"]["rows"] == 16 and scored["test"]["split"] == "test"
    assert scored["wikipedia-128"]["columns"] == "text"


def test_a_plan_names_the_texts_of_tasks_and_of_heads(graph):
    cell = study_plan(graph, "multitask-smollm2", ROOT)["cells"][0]
    outcome = cell["scored"]["papers-outcome"]["texts"]
    assert (outcome["columns"], outcome["rows"]) == ("sentences.abstract", 50)
    cells = study_plan(graph, "architectures-small", ROOT)["cells"]
    scored = [each for cell in cells for each in cell["scored"].values() if each["heads"]]
    assert scored and all(each["heads"][0]["split"] != each["texts"]["split"] for each in scored)


@pytest.mark.parametrize(
    ("column", "value", "mark", "word"),
    [
        ("learned_share", 0.5, "§", "learned by heart"),
        ("learned_share", 0.005, "", ""),
        ("contexts_cut", 2, "¶", "did not see all"),
        ("contexts_cut", 0, "", ""),
    ],
)
def test_scores_that_mean_something_else_are_marked(column, value, mark, word):
    about = {"model": "m", "prune": "p", "finetune": "f", "dataset": "d"}
    score = {**about, "kind": "cell", "split": "test", "metric": "rouge1", "value": 0.5, "n": 4}
    wide = typed_frame([{**about, "status": "ok", "test_rouge1": 0.5}], schema.COLUMNS)
    tall = typed_frame([score | {column: value}], schema.LONG)
    text = render_markdown({"study": "s", "title": None}, wide, tall)
    assert f"0.500 {mark}".strip() in text and word in text
    assert ("§" in text, "¶" in text) == (mark == "§", mark == "¶")
