"""Scoring: what is refused, what is recorded, and how metrics of one's own are loaded."""

from __future__ import annotations

import http.server
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow.parquet as pq
import pytest

from prunegrid import predicted, scoring
from prunegrid.errors import PrunegridError
from prunegrid.scoring import score
from prunegrid.stages import scores as stage

LIBRARY = Path(scoring.__file__).parents[1]
OWN = """
import datasets
import evaluate

{declared}

class Mine(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="",
            citation="",
            features=datasets.Features({{
                "predictions": datasets.Value("string"),
                "references": datasets.Value("string"),
                {features}
            }}),
        )

    def _compute(self, predictions, references, **options):
        return {result}
"""


def write_metric(
    path: Path, result: str, columns: dict | None = None, features: str = "", more: str = ""
) -> Path:
    """Write a metric file that returns `result`, an expression of predictions and references."""
    path.parent.mkdir(parents=True, exist_ok=True)
    declared = more if columns is None else f"COLUMNS = {columns!r}\n{more}"
    path.write_text(OWN.format(declared=declared, features=features, result=result))
    return path


UP = {"higher_is_better": True}


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "reference": ["the act pays farmers", "taxes fall", "a b c d e"],
            "prediction": ["the act pays", "", "a b c d a b c d"],
            "hit_limit": [False, False, True],
        }
    )


def python(code: str, **env: str) -> subprocess.Popen:
    """Start a fresh Python that runs `code` with the library on its path."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(LIBRARY), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


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


def test_a_metric_of_ones_own_is_loaded_by_its_path_as_file_and_as_folder(frame, tmp_path):
    path = write_metric(
        tmp_path / "mine" / "mine.py",
        "{'words': [len(p.split()) for p in predictions]}",
        {"words": UP},
    )
    for module in (path, path.parent):
        found = score(frame, {"mine": {"module": str(module)}})
        assert found.examples["words"].tolist() == [3, 0, 8]
    by_path = score(frame, {"mine": {"module": "mine", "path": str(path)}})
    assert by_path.facts["mine"]["module"] == "mine"
    assert str(tmp_path) not in json.dumps(by_path.facts)


def test_an_edited_metric_is_not_stale(frame, tmp_path):
    path = tmp_path / "mine.py"
    for value in (1.0, 2.0):
        write_metric(path, f"{{'x': [{value}] * len(predictions)}}", {"x": UP})
        assert score(frame, {"mine": {"module": str(path)}}).summary["x"]["mean"] == value


def test_an_edit_behind_a_hash_sign_reaches_the_next_job(frame, tmp_path):
    # `evaluate` hashes a module without what follows a '#', strings included.
    path = tmp_path / "mine.py"
    code = (
        "import sys, pandas as pd; from prunegrid.scoring import score;"
        "f = pd.DataFrame({'id': ['a'], 'prediction': ['p'], 'reference': ['r']});"
        f"print(score(f, {{'mine': {{'module': {str(path)!r}}}}}).summary['x']['mean'])"
    )
    for mark in ("#a", "#ab"):
        write_metric(path, f"{{'x': [float(len({mark!r}))]}}", {"x": UP})
        assert float(output(python(code, HF_HOME=str(tmp_path / "home")))) == len(mark)


def test_jobs_load_metrics_in_parallel_without_torch_and_leave_nothing_behind(tmp_path):
    path = write_metric(tmp_path / "mine.py", "{'x': [1.0] * len(predictions)}", {"x": UP})
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    code = (
        "import sys, pandas as pd; from prunegrid.scoring import score;"
        "f = pd.DataFrame({'id': ['a'], 'prediction': ['the act'], 'reference': ['the act']});"
        f"s = score(f, {{'rouge': {{}}, 'mine': {{'module': {str(path)!r}}}}});"
        "print(s.summary['rouge2']['mean'], s.summary['x']['mean'],"
        " 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    env = {"HOME": str(home), "TMPDIR": str(temporary), "HF_HUB_OFFLINE": "1"}
    env |= {"XDG_CACHE_HOME": str(home / "cache"), "HF_HOME": str(home / "hf")}
    jobs = [python(code, **env) for _ in range(3)]
    assert {output(job).strip() for job in jobs} == {"1.0 1.0 False False"}
    assert list(home.iterdir()) == list(temporary.iterdir()) == []


def test_metrics_of_texts_and_controls_need_no_torch():
    """What needs no model starts in a second, so it must not import torch."""
    code = (
        "import sys, importlib, pandas as pd; from prunegrid import modules, keys;"
        "from prunegrid.scoring import score; from prunegrid.stages import baseline;"
        "place = keys.LIBRARY / 'prunegrid';"
        "names = [p.stem for p in sorted((place / 'metrics').glob('[!_]*.py'))"
        " if not modules.metric_facts(p.stem, place)['NEEDS_MODEL']];"
        "f = pd.DataFrame({'id': ['a'], 'prediction': ['the act'], 'reference': ['the act'],"
        " 'document': ['the act pays'], 'template': ['{document}'], 'hit_limit': [False]});"
        "s = score(f, {name: {} for name in names});"
        "[importlib.import_module(f'prunegrid.baselines.{p.stem}')"
        " for p in (place / 'baselines').glob('[!_]*.py')];"
        "importlib.import_module('prunegrid.tables.aggregate');"
        "print(len(s.summary) >= 20, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    assert output(python(code)).strip() == "True False False"


def test_transformers_can_be_imported_after_scoring():
    code = (
        "import sys, pandas as pd; from prunegrid.scoring import score;"
        "f = pd.DataFrame({'id': ['a'], 'prediction': ['the act'], 'reference': ['the act']});"
        "score(f, {'length': {}}); import transformers; print(transformers.__version__)"
    )
    assert output(python(code)).strip()


def test_a_metric_gets_the_other_columns_that_its_features_name(frame, tmp_path):
    path = write_metric(
        tmp_path / "mine.py",
        "{'x': [float(h) for h in options['hit_limit']]}",
        {"x": UP},
        features='"hit_limit": datasets.Value("bool"),',
    )
    found = score(frame, {"mine": {"module": str(path)}})
    assert found.examples["x"].tolist() == [0.0, 0.0, 1.0]
    with pytest.raises(PrunegridError, match="wants 'hit_limit'"):
        score(frame.drop(columns="hit_limit"), {"mine": {"module": str(path)}})


def test_a_module_without_columns_gives_numbers_of_the_corpus(frame, tmp_path):
    result = "{'mine': 0.5, 'brevity': 2, 'parts': [1, 2, 3], 'each': [0.1] * 20}"
    path = write_metric(tmp_path / "mine.py", result)
    found = score(frame, {"mine": {"module": str(path)}})
    assert found.examples[["mine", "mine_brevity"]].isna().all(axis=None)
    assert found.summary["mine"] == {
        "mean": 0.5,
        "n": 3,
        "corpus": True,
        "higher_is_better": None,
    }
    assert found.facts["mine"]["details"]["parts"] == [1, 2, 3]
    assert "20 values" in found.facts["mine"]["details"]["each"]


def test_the_setting_columns_says_what_a_module_returns_by_example(frame, tmp_path):
    path = write_metric(tmp_path / "mine.py", "{'f1': [0.1, 0.2, 0.3], 'code': 'h'}")
    found = score(frame, {"theirs": {"module": str(path), "columns": {"f1": UP}}})
    assert found.examples["theirs_f1"].tolist() == [0.1, 0.2, 0.3]
    assert found.summary["theirs_f1"]["higher_is_better"] is True
    assert found.facts["theirs"]["details"] == {"code": "h"}
    with pytest.raises(PrunegridError, match="declares its own columns"):
        score(frame, {"rouge": {"columns": {"f1": UP}}})


def test_a_metric_under_another_name_has_it_before_its_columns(frame):
    found = score(frame, {"rouge": {}, "plain": {"module": "rouge", "stemmer": False}})
    assert {"rouge1", "plain_rouge1", "plain_rougeLsum"} <= set(found.examples)
    assert found.facts["plain"]["settings"] == {"stemmer": False, "sentences": "rule"}


def test_a_column_of_the_modules_name_takes_the_metrics_name(frame, tmp_path):
    result = "{'mine': [1.0] * 3, 'other': [2.0] * 3}"
    path = write_metric(tmp_path / "mine.py", result, {"mine": UP, "other": UP})
    found = score(frame, {"theirs": {"module": str(path)}})
    assert list(found.summary) == ["theirs", "theirs_other"]


def test_two_metrics_with_the_same_column_are_refused(frame, tmp_path):
    path = write_metric(
        tmp_path / "mine.py", "{'rouge1': [1.0] * len(predictions)}", {"rouge1": UP}
    )
    with pytest.raises(PrunegridError, match="two metrics give the column rouge1"):
        score(frame, {"rouge": {}, "mine": {"module": str(path)}})


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("{'x': [1.0]}", "did not return 3 values of x"),
        ("{'y': [1.0] * 3}", "did not return 3 values of x"),
        ("{'x': [1.0, float('nan'), 1.0]}", "x is nan.*|example b"),
        ("{'x': [1.0, 'a', 1.0]}", "x is 'a'"),
        ("[1.0]", "returned a list"),
    ],
)
def test_what_a_metric_did_not_declare_is_an_error(frame, tmp_path, result, message):
    path = write_metric(tmp_path / "mine.py", result, {"x": UP})
    with pytest.raises(PrunegridError, match=message):
        score(frame, {"mine": {"module": str(path)}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("from evaluate import Metric\nclass Mine(Metric):\n    pass\n", "import evaluate"),
        ("import evaluate\nclass Mine(evaluate.Metric)\n", "SyntaxError"),
        ("import no_such_package_at_all\n", "no_such_package_at_all"),
        ("X = 1\n", "cannot be loaded"),
    ],
)
def test_a_broken_metric_file_gets_one_clear_error(frame, tmp_path, text, message):
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(PrunegridError, match=message):
        score(frame, {"mine": {"module": str(path)}})


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"rogue": {}}, "unknown metric 'rogue'.*did you mean 'rouge'"),
        ({"mine": {"module": "./no/where.py"}}, "no metric file"),
        ({"rouge": {"stemer": True}}, "unknown setting 'stemer'.*did you mean 'stemmer'"),
        ({"bertscore": {"layer": 2}}, "needs a model"),
    ],
)
def test_unknown_names_and_settings_are_errors(frame, metrics, message):
    with pytest.raises(PrunegridError, match=message):
        score(frame, metrics)


def test_a_model_for_a_metric_that_takes_none_is_an_error(frame, tmp_path):
    with pytest.raises(PrunegridError, match="takes no model"):
        score(frame, {"rouge": {}}, {"rouge": tmp_path})


def test_a_metric_of_the_hub_is_fetched_once_and_found_again_offline(tmp_path):
    hub = tmp_path / "spaces" / "evaluate-metric" / "exact" / "resolve" / "v0.4.6"
    write_metric(
        hub / "exact.py", "{'exact': sum(p == r for p, r in zip(predictions, references))}"
    )
    handler = _Quiet.serving(tmp_path)
    code = (
        "import pandas as pd; from prunegrid.scoring import score;"
        "f = pd.DataFrame({'id': ['a', 'b'], 'prediction': ['p', 'q'], 'reference': ['p', 'r']});"
        "print(score(f, {'exact': {'module': 'hf:exact'}}).summary['exact']['mean'])"
    )
    env = {"HF_HOME": str(tmp_path / "home"), "no_proxy": "*"}
    env |= {"HF_HUB_OFFLINE": "0", "HF_EVALUATE_OFFLINE": "0"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
        assert float(output(python(code, **env))) == 1.0
        server.shutdown()
    assert float(output(python(code, **env | {"HF_HUB_OFFLINE": "1"}))) == 1.0
    missing = python(code, **env | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")})
    started = time.monotonic()
    _, err = missing.communicate(timeout=120)
    assert missing.returncode == 1
    assert "unset HF_HUB_OFFLINE" in err
    assert time.monotonic() - started < 30


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def end_headers(self):
        self.send_header("ETag", '"1"')
        super().end_headers()

    @classmethod
    def serving(cls, folder: Path):
        return lambda *args: cls(*args, directory=str(folder))


def test_a_folder_in_the_way_of_a_hub_metric_is_told(frame, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bleu").mkdir()
    with pytest.raises(PrunegridError, match="lies in the way"):
        score(frame, {"bleu": {"module": "hf:bleu"}})


def test_the_stage_joins_the_documents_by_id(frame, tmp_path):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "data").mkdir()
    predicted.write(
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
