"""Museum of faults, the tables' wing: what public notebooks did to scores and rows."""

from __future__ import annotations

from types import SimpleNamespace

import pandas
import pytest

from prunegrid.artifacts import artifact_folder, preconditions
from prunegrid.common import file_io
from prunegrid.data.leak_check import Known
from prunegrid.evaluation import scoring
from prunegrid.stages import mixture
from prunegrid.tables import aggregate, contrasts, leaves, table_rows
from prunegrid.tables.copies import copied_rows
from prunegrid.tables.schema import COLUMNS, LONG
from tests.helpers.museum import stopped_by

ROUGE = {"rouge": {"module": "rouge"}}


def predictions(**columns):
    plain = {"id": ["a", "b"], "reference": ["one two", "three"], "prediction": ["one", "three"]}
    return pandas.DataFrame(plain | columns)


@pytest.mark.parametrize("column", ["prediction", "reference"])
def test_token_ids_in_the_place_of_texts(column):
    with stopped_by(scoring.check_predictions, "not token ids"):
        scoring.score(predictions(**{column: [[12, 40, 7], [3]]}), ROUGE)


def test_an_example_counted_twice():
    with stopped_by(scoring.check_predictions, "the id a occurs twice"):
        scoring.score(predictions(id=["a", "a"]), ROUGE)


def test_a_reference_that_was_cut_away():
    with stopped_by(scoring.check_predictions, "the reference of b is empty"):
        scoring.score(predictions(reference=["one", " "]), ROUGE)


def row(model, sha, ppl, texts="t1", **more):
    cell = {"model": model, "prune": "p", "finetune": "f", "dataset": "d", "seed": 0}
    cell |= {"status": "ok", "weights_sha256": sha, "predictions_sha256": texts}
    cell |= {"answers_sha256": None, "adapter": "none"}
    return cell | {"wiki_ppl": ppl} | more


def test_a_copied_row():
    """One model's numbers under another's name, to the last digit."""
    measured = row("gpt2", "1" * 64, 121.41)
    copy = row("olmo-1b", "2" * 64, 121.41, "t2")
    faults, notes = copied_rows([measured, copy], ["wiki_ppl"])
    assert len(faults) == 1 and "gpt2" in faults[0] and "olmo-1b" in faults[0]
    assert notes == []
    honest = row("olmo-1b", "2" * 64, 121.41000000000001, "t2")
    assert copied_rows([measured, honest], ["wiki_ppl"]) == ([], [])
    same = row("gpt2", "1" * 64, 121.41, finetune="again")
    assert copied_rows([measured, same], ["wiki_ppl"]) == ([], [])
    failed = copy | {"status": "failed"}
    assert copied_rows([measured, failed], ["wiki_ppl"]) == ([], [])


def test_an_adapter_and_its_merge_may_be_one_function():
    """A product that is added to the weights in both rows: of one base alone, and of one seed."""
    beside = row("gpt2", "1", 121.41, finetune="lora", adapter="unmerged")
    merged = row("gpt2", "2", 121.41, "t2", finetune="lora-merged", adapter="merged")
    faults, (note,) = copied_rows([beside, merged], ["wiki_ppl"])
    assert faults == [] and "one adapter, merged and not" in note
    for other in ({"prune": "q"}, {"seed": 1}, {"adapter": "unmerged"}, {"model": "opt"}):
        (fault,), notes = copied_rows([beside, merged | other], ["wiki_ppl"])
        assert "a copy" in fault and notes == []


def test_a_row_with_another_models_benchmarks():
    """Five scores of one model under another's name: the answers behind them are the same."""
    measured = row("gpt2", "1", None, None, answers_sha256="a")
    copy = row("olmo-1b", "2", None, None, answers_sha256="a")
    (fault,), _ = copied_rows([measured, copy], [])
    assert "gpt2" in fault and "olmo-1b" in fault and "the same log-likelihoods" in fault
    assert copied_rows([measured, copy | {"answers_sha256": "b"}], []) == ([], [])
    assert copied_rows([measured, copy | {"weights_sha256": "1"}], []) == ([], [])


@pytest.mark.parametrize("second", [121.41, 121.42])
def test_a_table_with_a_copied_row_is_not_complete(tmp_path, monkeypatch, second):
    made = {"gpt2": ("1" * 64, 121.41), "olmo-1b": ("2" * 64, second)}

    def cell_rows(plan, cell):
        sha, ppl = made[cell["name"]]
        base = {column.name: None for column in COLUMNS}
        found = base | row(cell["name"], sha, ppl, None, wiki_ppl_16_nonoverlap=ppl)
        found.pop("wiki_ppl")
        long = {column.name: found.get(column.name) for column in LONG}
        long |= {"kind": "cell", "split": "wiki", "metric": "ppl_16_nonoverlap", "value": ppl}
        return found, [long]

    monkeypatch.setattr(aggregate, "cell_rows", cell_rows)
    monkeypatch.setattr(aggregate, "draw_study", lambda *_: None)
    monkeypatch.setattr(aggregate.assembly, "page", lambda facts: "")
    monkeypatch.setattr(aggregate, "save", lambda *_: _[1].write_bytes(b""))
    empty = {"texts": {}, "perplexities": {}, "tasks": {}, "efficiency": None}
    plan = {"study": "s", "title": "", "key": "k", "bootstrap_seed": 0}
    plan |= {"cells": [{"name": name, **empty} for name in made]}
    plan |= dict.fromkeys(("baselines", "expected", "contrasts", "cliffs"), [])
    whole = second != 121.41
    assert aggregate.aggregate(plan, tmp_path) is whole
    assert ("a copy" in (tmp_path / "s.md").read_text()) is not whole


def test_the_same_texts_of_other_weights_are_noted():
    faults, (note,) = copied_rows([row("m", "1", None), row("n", "2", None)], ["wiki_ppl"])
    assert faults == [] and "same texts" in note and "n / p / f / d / seed 0" in note
    silent = [row("m", "1", 3.0, None), row("n", "2", 4.0, None)]
    assert copied_rows(silent, ["wiki_ppl"]) == ([], [])


def test_a_row_twice():
    with pytest.raises(ValueError, match="two rows have the key"):
        aggregate.unique_key([row("m", "1", 1.0), row("m", "2", 2.0)])


def artifact(folder, key, **record):
    """Write an artifact without files; return what a plan says of it."""
    folder.mkdir()
    manifest = {"key": key, "files": {}, "content": artifact_folder.content_digest({}), **record}
    file_io.write_json(folder / "manifest.json", manifest)
    return {"path": str(folder), "key": key, "label": folder.name, "status": "none"}


def test_an_artifact_copied_into_the_place_of_another(tmp_path):
    other = artifact(tmp_path / "other", "1" * 16)
    with stopped_by(artifact_folder.read_manifest, "the artifact has the key 1111"):
        leaves.open_artifact(other | {"key": "2" * 16})


def cell(tmp_path, evaluated, seen):
    """Return a cell whose two perplexities were taken on weights `seen`, of the key `evaluated`."""
    refs = {}
    for name, sha in seen.items():
        record = {"weights": {"sha256": sha}, "metric": "ppl", "perplexity": 1.0, "windows": 1}
        about = {"record": record, "parents": {"weights": {"key": evaluated}}, "lineage": []}
        refs[name] = artifact(tmp_path / name, "k", **about)
    chain = [{"path": "weights", "key": "pruned", "stage": "prune"}]
    return {"texts": {}, "perplexities": refs, "tasks": {}, "efficiency": None, "chain": chain}


def test_scores_of_other_weights_in_a_row(tmp_path):
    made = cell(tmp_path, "pruned", {"one": "a", "two": "b"})
    with stopped_by(table_rows.measured_values, "ran on different weights"):
        table_rows.measured_values(made, leaves.manifests_of(made))


def test_a_row_scored_on_the_dense_model(tmp_path):
    made = cell(tmp_path, "dense", {"one": "a"})
    with stopped_by(table_rows.measured_values, "evaluated another artifact"):
        table_rows.measured_values(made, leaves.manifests_of(made))


def answers(folder, prune, right, plan):
    """Return a cell of 200 questions with four choices, its row and its rows of the long table."""
    folder.mkdir()
    items = {"id": [str(n) for n in range(200)], "acc": [float(n < right) for n in range(200)]}
    pandas.DataFrame(items).to_parquet(folder / "scores.parquet")
    about = {"model": "m", "dataset": "d", "prune": prune, "finetune": "none", "seed": None}
    summary = {"mean": right / 200, "n": 200, "higher_is_better": True, "chance": 0.25}
    record, ref = {"record": {"summary": {"acc": summary}}}, {"path": str(folder)}
    long = table_rows.text_rows(plan, about | {"kind": "cell"}, "test", ref, record)
    cell = {"texts": {"test": {"scores": ref}}, "perplexities": {}, "tasks": {}}
    row = {column.name: None for column in COLUMNS} | about | {"status": "ok", "test_acc": 1.0}
    return cell, row, [{column.name: None for column in LONG} | entry for entry in long]


@pytest.mark.parametrize(
    ("right", "low", "verdict"), [(55, True, contrasts.CHANCE), (180, False, contrasts.BETTER)]
)
def test_a_score_at_chance_read_as_ability(tmp_path, right, low, verdict):
    """55 of 200 four-way questions are more than another model's 10, and no ability."""
    plan = {"study": "s", "bootstrap_seed": 0}
    made = [
        answers(tmp_path / name, name, count, plan) for name, count in (("p", right), ("q", 10))
    ]
    cells, rows, long = ([one[part] for one in made] for part in range(3))
    tall = pandas.DataFrame([entry for some in long for entry in some])
    tall = tall.astype({column.name: column.dtype for column in LONG})
    assert tall["at_chance"].tolist() == [low, True]
    entry = {"name": "c", "split": "test", "metric": "acc", "margin": None}
    entry |= {"a": {"prune": "p"}, "b": {"prune": "q"}}
    (found,) = contrasts.contrast_rows(plan | {"cells": cells, "contrasts": [entry]}, rows, tall)
    assert (found["verdict"], found["p_holm"] < 0.05) == (verdict, True)


def test_versions_that_are_not_the_pinned_ones():
    with stopped_by(preconditions.check_pins, "does not match its pins: numpy"):
        preconditions.check_pins({"numpy": "0.0.1"})


def test_tuned_on_what_is_tested(tmp_path):
    rows = [{"goal": f"mend cup {n}", "label": 0} for n in range(5)]
    pandas.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    part = {"split": "train", "of": "piqa", "id": None, "text": "goal"}
    known = Known()
    known.add([{"goal": "Mend cup 3!"}], part, "here")
    step = SimpleNamespace(where="here", seed=lambda purpose: 0)
    with stopped_by(mixture.pool_rows, "1 rows of 'piqa' are evaluated"):
        mixture.pool_rows(tmp_path, "piqa", part, known, "refuse", step)
    pool, facts = mixture.pool_rows(tmp_path, "piqa", part, known, "drop", step)
    assert sorted(label for label, _ in pool) == ["0", "1", "2", "4"]
    assert facts == {"rows": 5, "leaked": {"id": 0, "text": 1}}
