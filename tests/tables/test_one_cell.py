"""Which cell a text names, and what is said where it names none or several."""

from pathlib import Path

import pytest

from prunegrid.artifacts import artifact_folder
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.tables import one_cell
from prunegrid.tables.schema import COLUMNS
from tests.helpers import cell_world

RESULTS = Path("results")


def reference(stage, key):
    """Return the plan's entry of an artifact that only its record is read of."""
    weights = {"sha256": key * 4, "precision": "float32", "parameters": 10}
    return cell_world.artifact(stage, key, lambda out: weights)


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    """A study `s` of four cells, over two seeds and two prunings; another failed."""
    monkeypatch.chdir(tmp_path)
    texts = cell_world.data()
    base, first, second = (reference(s, k * 4) for s, k in STEPS)
    cells = [
        cell_world.cell([base], texts),
        cell_world.cell([base, first], texts, prune="half", finetune="lora", seed=0),
        cell_world.cell([base, second], texts, prune="half", finetune="lora", seed=1),
        cell_world.cell([base], texts, prune="most"),
    ]
    rows = [cell_world.row("s", entry, 20.0) for entry in cells]
    rows[3][0].update(status="failed", reason="the disk is full", artifact=None)
    cell_world.table("s", cells, rows)


STEPS = (("model", "ba5e"), ("finetune", "f157"), ("finetune", "5ec0"))


@pytest.mark.parametrize(
    ("text", "artifact"),
    [
        ("s/dense/none", "model/ba5eba5eba5eba5e"),
        ("s/none/dense/", "model/ba5eba5eba5eba5e"),
        ("s/half/lora/1", "finetune/5ec05ec05ec05ec0"),
        ("s/lora/0", "finetune/f157f157f157f157"),
        ("f157f1", "finetune/f157f157f157f157"),
        ("5ec0" * 16, "finetune/5ec05ec05ec05ec0"),
    ],
)
def test_names_in_any_order_or_the_beginning_of_a_digest(text, artifact):
    found = one_cell.find(text, RESULTS)
    assert found.folder.as_posix().endswith(artifact)
    assert found.plan["chain"][-1]["path"] == found.row["artifact"]
    assert one_cell.find(found.name, RESULTS).row == found.row


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("s/half", "2 cells have this name; expected one of s/half/lora/0, s/half/lora/1"),
        ("s/half/none", "no cell.*s/dense/none"),
        ("s/halff/lora", "did you mean 'half'"),
        ("t/half", "no finished table of a study 't'.*did you mean 's'|known: s"),
        ("s", "4 cells have this name"),
        ("0123456789", "no cell has this name"),
        ("s/most", "the disk is full.*prunegrid run s"),
    ],
)
def test_unknown_and_ambiguous_names_say_which_there_are(text, words):
    with pytest.raises(PrunegridError, match=words):
        one_cell.find(text, RESULTS)


def test_the_scores_of_a_cell_and_of_the_untouched_model():
    found = one_cell.find("s/half/lora/1", RESULTS)
    assert found.scores["seed"].tolist() == [1]
    assert found.dense_scores["prune"].tolist() == ["dense"]
    assert found.row["seed"] == 1 and set(found.row) >= {column.name for column in COLUMNS}


def test_a_census_has_no_models_to_name():
    path = RESULTS / "s.manifest.json"
    manifest = file_io.read_json(path)
    manifest["plan"]["kind"] = "census"
    file_io.write_json(path, artifact_folder.sealed(manifest))
    with pytest.raises(PrunegridError, match="census"):
        one_cell.find("s/dense", RESULTS)


def test_a_plan_of_another_version_says_to_make_the_table_again():
    path = RESULTS / "s.manifest.json"
    manifest = file_io.read_json(path)
    del manifest["plan"]["cells"][0]["scored"]
    file_io.write_json(path, artifact_folder.sealed(manifest))
    with pytest.raises(PrunegridError, match="prunegrid run s"):
        one_cell.find("s/dense/none", RESULTS)


def test_a_table_that_was_changed_is_not_read(tmp_path):
    path = RESULTS / "s.manifest.json"
    path.write_text(path.read_text().replace('"s"', '"x"', 1))
    with pytest.raises(PrunegridError, match="changed"):
        one_cell.find("s/dense", RESULTS)


def test_without_any_table():
    for path in RESULTS.glob("*.parquet"):
        path.unlink()
    for text in ("s/dense", "abcdef"):
        with pytest.raises(PrunegridError, match="finished table"):
            one_cell.find(text, RESULTS)
