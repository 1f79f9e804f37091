"""Metrics of one's own and of the hub: how they are loaded, named, refused."""

from __future__ import annotations

import http.server
import json
import threading
from pathlib import Path

import pytest

from prunegrid.common.errors import PrunegridError
from prunegrid.evaluation.scoring import score
from tests.helpers.own_metric import UP, output, python, write_metric, write_plain


def test_a_metric_of_ones_own_is_loaded_by_its_path(frame, tmp_path):
    result = "{'words': [len(p.split()) for p in predictions]}"
    path = write_metric(tmp_path / "mine.py", result, {"words": UP})
    found = score(frame, {"mine": {"module": str(path)}})
    assert found.examples["words"].tolist() == [3, 0, 8]
    by_path = score(frame, {"mine": {"module": "mine", "path": str(path)}})
    assert by_path.facts["mine"]["module"] == "mine"
    assert str(tmp_path) not in json.dumps(by_path.facts)


def test_a_plain_metric_gets_columns_by_position_and_settings_by_name(frame, tmp_path):
    more = "SETTINGS = {'plus': 1}\nPACKAGES = ('pandas',)\n"
    more += "from dataclasses import dataclass\n@dataclass\nclass Kept:\n    value: 'float'\n"
    result = "{'x': [Kept(float(h)).value + plus for h in hit_limit], 'said': options}"
    path = write_plain(tmp_path / "mine.py", result, {"x": UP}, "hit_limit, *, plus, ", more)
    found = score(frame, {"mine": {"module": str(path), "plus": 2}})
    assert found.examples["x"].tolist() == [2.0, 2.0, 3.0]
    facts = found.facts["mine"]
    assert facts["details"] == {"said": {}} and facts["versions"].keys() == {"pandas"}
    with pytest.raises(PrunegridError, match="wants 'hit_limit'"):
        score(frame.drop(columns="hit_limit"), {"mine": {"module": str(path)}})
    path.write_text("import no_such_package_at_all\ndef compute(predictions):\n    return {}\n")
    with pytest.raises(PrunegridError, match="metric mine .*no_such_package_at_all"):
        score(frame, {"mine": {"module": str(path)}})


@pytest.mark.parametrize("write", [write_plain, write_metric])
def test_an_edited_metric_is_not_stale(frame, tmp_path, write):
    path = tmp_path / "mine.py"
    for value in (1.0, 2.0):
        write(path, f"{{'x': [{value}] * len(predictions)}}", {"x": UP})
        assert score(frame, {"mine": {"module": str(path)}}).summary["x"]["mean"] == value


def test_an_edit_behind_a_hash_sign_reaches_the_next_job(frame, tmp_path):
    # `evaluate` hashes a module without what follows a '#', strings included.
    path = tmp_path / "mine.py"
    code = (
        "import sys, pandas as pd; from prunegrid.evaluation.scoring import score;"
        "f = pd.DataFrame({'id': ['a'], 'prediction': ['p'], 'reference': ['r']});"
        f"print(score(f, {{'mine': {{'module': {str(path)!r}}}}}).summary['x']['mean'])"
    )
    for mark in ("#a", "#ab"):
        write_metric(path, f"{{'x': [float(len({mark!r}))]}}", {"x": UP})
        assert float(output(python(code, HF_HOME=str(tmp_path / "home")))) == len(mark)


@pytest.mark.parametrize(("write", "imported"), [(write_plain, False), (write_metric, True)])
def test_jobs_load_metrics_in_parallel_and_leave_nothing_behind(tmp_path, write, imported):
    path = write(tmp_path / "mine.py", "{'x': [1.0] * len(predictions)}", {"x": UP})
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    code = (
        "import sys, pandas as pd; from prunegrid.evaluation.scoring import score;"
        "f = pd.DataFrame({'id': ['a'], 'prediction': ['the act'], 'reference': ['the act']});"
        f"s = score(f, {{'rouge': {{}}, 'mine': {{'module': {str(path)!r}}}}});"
        "print(s.summary['rouge2']['mean'], s.summary['x']['mean'],"
        " 'evaluate' in sys.modules)"
    )
    env = {"HOME": str(home), "TMPDIR": str(temporary), "HF_HUB_OFFLINE": "1"}
    env |= {"XDG_CACHE_HOME": str(home / "cache"), "HF_HOME": str(home / "hf")}
    jobs = [python(code, **env) for _ in range(3)]
    assert {output(job).strip() for job in jobs} == {f"1.0 1.0 {imported}"}
    assert list(home.iterdir()) == list(temporary.iterdir()) == []


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
        ("import evaluate\nclass Mine(evaluate.Metric)\n", "be read as Python"),
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
        ({"rogue": {}}, "no metric 'rogue'.*did you mean 'rouge'"),
        ({"mine": {"module": "./no/where.py"}}, "no file"),
    ],
)
def test_unknown_names_are_errors(frame, metrics, message):
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
        "import pandas as pd; from prunegrid.evaluation.scoring import score;"
        "f = pd.DataFrame({'id': ['a', 'b'], 'prediction': ['p', 'q'], 'reference': ['p', 'r']});"
        "print(score(f, {'exact': {'module': 'hf:exact'}}).summary['exact']['mean'])"
    )
    env = {"HF_HOME": str(tmp_path / "home"), "no_proxy": "*"}
    env |= {"HF_HUB_OFFLINE": "0", "HF_EVALUATE_OFFLINE": "0"}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
        assert float(output(python(code, **env))) == 1.0
        assert _Quiet.requests
        _Quiet.requests.clear()
        env["HF_HUB_OFFLINE"] = "1"
        assert float(output(python(code, **env))) == 1.0
        missing = python(code, **env | {"HF_HOME": str(tmp_path / "empty")})
        _, err = missing.communicate()
        server.shutdown()
    assert missing.returncode == 1
    assert "unset HF_HUB_OFFLINE" in err
    assert _Quiet.requests == []  # neither asks a hub, and so neither waits for one


class _Quiet(http.server.SimpleHTTPRequestHandler):
    requests = []

    def log_message(self, *args):
        self.requests.append(args)

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
