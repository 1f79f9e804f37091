"""Scoring: what is refused, what is recorded, the stage's own files."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation import predictions_file, scoring
from prunegrid.evaluation.scoring import score
from prunegrid.stages import scores as stage
from tests.helpers.own_metric import output, python


@pytest.mark.parametrize("value", [[5, 7, 2], None, 3.0])
def test_predictions_that_are_not_text_are_refused(frame, value):
    frame["prediction"] = [value, "x", "y"]
    with pytest.raises(PrunegridError, match="row 0 has a .* as prediction.*token ids"):
        score(frame, {"rouge": {}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="reference"), "column reference is missing"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.assign(id=["a", "b", "a"]), "id a occurs twice"),
        (lambda f: f.assign(reference=["x", " ", "y"]), "reference of b is empty"),
    ],
)
def test_broken_tables_are_refused(frame, change, message):
    with pytest.raises(PrunegridError, match=message):
        score(change(frame), {"rouge": {}})


def test_the_mean_is_over_the_examples_that_have_a_score(frame):
    found = score(frame, {"repetition": {}, "rouge": {}, "length": {}})
    assert found.examples["rep4"].isna().tolist() == [True, True, False]
    assert found.summary["rep4"] == {"mean": 0.2, "n": 1, "higher_is_better": False}
    assert found.summary["rouge1"]["n"] == 3
    assert found.summary["rouge1"]["mean"] == pytest.approx(found.examples["rouge1"].mean())
    assert found.summary["empty"]["mean"] == pytest.approx(1 / 3)
    assert scoring.count_empty(frame) == 1


def test_no_example_with_a_score_gives_no_mean(frame):
    found = score(frame.iloc[:2], {"repetition": {}})
    assert found.summary["rep4"] == {"mean": None, "n": 0, "higher_is_better": False}


def test_scores_do_not_depend_on_the_order_of_the_rows(frame):
    words = ["the", "act", "pays", "farmers", "and", "taxes", "fall"]
    draw = random.Random(3)
    rows = [
        {
            "id": f"e{number}",
            "prediction": " ".join(draw.choices(words, k=draw.randrange(12))),
            "reference": " ".join(draw.choices(words, k=8)),
        }
        for number in range(30)
    ]
    wanted = {"rouge": {}, "length": {}, "repetition": {}}
    straight = score(pd.DataFrame(rows), wanted)
    draw.shuffle(rows)
    shuffled = score(pd.DataFrame(rows), wanted)
    again = shuffled.examples.set_index("id").loc[straight.examples["id"]].reset_index()
    pd.testing.assert_frame_equal(again, straight.examples, check_exact=True)
    assert shuffled.summary == straight.summary


def test_metrics_of_texts_and_controls_need_no_torch():
    """What needs no model starts in a second, so it must not import torch."""
    code = (
        "import sys, importlib, pandas as pd; from prunegrid.common import plugins, source_code;"
        "from prunegrid.evaluation.scoring import score; from prunegrid.stages import controls;"
        "place = source_code.LIBRARY / 'prunegrid';"
        "names = [p.stem for p in sorted((place / 'evaluation/metrics').glob('[!_]*.py'))"
        " if not plugins.metric_facts(p.stem, place)['NEEDS_MODEL']];"
        "f = pd.DataFrame({'id': ['a'], 'prediction': ['the act'], 'reference': ['the act'],"
        " 'document': ['the act pays'], 'template': ['{document}'], 'hit_limit': [False]});"
        "s = score(f, {name: {} for name in names});"
        "[importlib.import_module(f'prunegrid.evaluation.baselines.{p.stem}')"
        " for p in (place / 'evaluation/baselines').glob('[!_]*.py')];"
        "importlib.import_module('prunegrid.tables.aggregate');"
        "print(len(s.summary) >= 20, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert output(python(code)).strip() == "True False False"


def test_transformers_can_be_imported_after_scoring():
    code = (
        "import sys, pandas as pd; from prunegrid.evaluation.scoring import score;"
        "f = pd.DataFrame({'id': ['a'], 'prediction': ['the act'], 'reference': ['the act']});"
        "score(f, {'length': {}}); import transformers; print(transformers.__version__)"
    )
    assert output(python(code)).strip()


def test_the_stage_joins_the_documents_by_id(frame, tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "data").mkdir()
    predictions_file.write(
        {**frame.to_dict("list"), "prompt_tokens": [1] * 3, "prediction_tokens": [1] * 3,
         "cut": [False] * 3}, tmp_path / "predictions",
    )  # fmt: skip
    documents = {"c": "a b c d", "a": "the act", "z": "other", "b": "y"}
    data = pd.DataFrame(
        {"id": list(documents), "document": list(documents.values()), "summary": "s"}
    )
    data.to_parquet(tmp_path / "data" / "test.parquet")
    settings = {"metrics": {"copying": {}}, "split": "test", "template": "{document}"}
    parents = {"predictions": tmp_path / "predictions", "data": tmp_path / "data"}
    joined = stage.read_inputs(settings, parents)
    assert joined["document"].tolist() == ["the act", "y", "a b c d"]
    assert set(joined["template"]) == {"{document}"}
    out = tmp_path / "out"
    out.mkdir()
    stage.run(settings, parents, out, SimpleNamespace(device="cpu"))
    assert pq.read_table(out / "scores.parquet")["copy_longest"].to_pylist() == [2.0, None, 4.0]
    data[data["id"] != "b"].to_parquet(tmp_path / "data" / "test.parquet")
    with pytest.raises(PrunegridError, match="no row b, which was predicted"):
        stage.read_inputs(settings, parents)


def test_a_metric_that_wants_the_document_must_say_so(frame):
    with pytest.raises(PrunegridError, match="wants 'document'.*READS"):
        score(frame, {"copying": {}})


def test_the_stage_writes_the_same_bytes_with_nulls(frame, tmp_path):
    (tmp_path / "predictions").mkdir()
    frame.to_parquet(tmp_path / "predictions" / "predictions.parquet")
    settings = {"metrics": {"rouge": {"module": "rouge"}, "repetition": {"module": "repetition"}}}
    files = []
    for number in range(2):
        out = tmp_path / f"out{number}"
        out.mkdir()
        parents = {"predictions": tmp_path / "predictions"}
        record = stage.run(settings, parents, out, SimpleNamespace(device="cpu"))
        files.append((out / "scores.parquet").read_bytes())
        assert [path.name for path in out.iterdir()] == ["scores.parquet"]
    assert files[0] == files[1]
    table = pq.read_table(tmp_path / "out0" / "scores.parquet")
    assert [str(field.type) for field in table.schema] == ["string"] + ["double"] * 9
    assert table["rep4"].null_count == 2
    assert table["id"].to_pylist() == ["a", "b", "c"]
    assert (record["n"], record["empty"]) == (3, 1)
    assert record["metrics"]["rouge"]["versions"]["rouge-score"]
    json.dumps(record, allow_nan=False)
