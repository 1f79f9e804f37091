"""`prunegrid export` and `check`: the folder, its card, a push, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants

from prunegrid.artifacts import artifact_folder, dropped
from prunegrid.commands import cli
from prunegrid.common import file_io
from prunegrid.models import exported_folder
from prunegrid.tables import model_card, one_cell
from tests.helpers import cell_world
from tests.helpers.hub_server import hub_server

pytestmark = pytest.mark.model

CELL = "demo/half/none"
REPO = "org/half"
SECRET = "a-token-of-no-usual-form-4711"


@pytest.fixture(autouse=True)
def study(tmp_path, monkeypatch):
    """A study of a dense decoder and one pruned to 2:4."""
    monkeypatch.chdir(tmp_path)
    cell_world.small()


def export(*arguments):
    return cli.main(["export", *arguments])


def test_an_exported_folder_passes_the_check_where_there_are_no_results(tmp_path, capsys):
    assert export(CELL, "out/model") == 0
    said = capsys.readouterr().out
    assert "prunegrid check out/model" in said and "2:4" in said
    moved = (tmp_path / "out/model").rename(tmp_path / "moved")
    (tmp_path / "results").rename(tmp_path / "gone")
    assert cli.main(["check", str(moved)]) == 0
    about = exported_folder.read_header(moved)
    assert about["row"]["prune"] == "half" and about["scores"][0]["value"] == 25.0
    assert [step["key"] for step in about["steps"]] == ["ba5e" * 4, "c0de" * 4]
    assert about["steps"][1]["settings"]["method"] == "wanda"


def test_a_check_prints_its_verdict_and_no_bars_or_details_of_libraries():
    export(CELL, "model")
    command = [sys.executable, "-m", "prunegrid", "check", "model"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
        environment.pop(name, None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "as exported" in done.stdout and done.stderr == ""


def test_an_altered_folder_fails_with_the_tensors_name(capsys):
    export("c0dec0", "model")
    weights = Path("model/model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1  # in the last tensor by name
    weights.write_bytes(data)
    capsys.readouterr()
    assert cli.main(["check", "model"]) == 1
    assert "the tensor model.norm.weight is not the one" in capsys.readouterr().out


def test_an_edited_card_is_told_and_passes(capsys):
    export(CELL, "model")
    Path("model/README.md").write_text("mine")
    assert cli.main(["check", "model"]) == 0
    assert "README.md was edited" in capsys.readouterr().out


def test_the_card_has_the_rows_numbers_and_what_a_hub_reads():
    export(CELL, "model")
    card = ModelCard.load("model/README.md")
    data = card.data.to_dict()
    assert data["base_model"] == "org/base" and data["base_model_relation"] == "finetune"
    assert data["license"] == "mit" and data["library_name"] == "transformers"
    assert data["pipeline_tag"] == "text-generation" and data["datasets"] == ["org/notes"]
    assert data["tags"] == ["pruned", "sparse", "2:4", "prunegrid"]
    result = card.data.eval_results[0]
    assert (result.metric_type, result.metric_value) == ("perplexity", 25.0)
    assert (result.dataset_type, result.dataset_split) == ("org/notes", "test")
    assert "24–26" in card.text and "20" in card.text  # the interval; the untouched model
    assert 'from_pretrained("model"' in card.text
    assert not Path("model/.eval_results").exists()  # no registered benchmark


def test_the_card_says_once_what_the_model_was_calibrated_and_tuned_on():
    cell = one_cell.find(CELL, Path("results"))
    first = cell.plan["learned"][0]
    cell.plan["learned"] += [first | {"use": "tuned"}, first | {"use": "tuned", "split": "dev"}]
    text = model_card.write(cell, "plain", "model", tokenizer=True)
    both = "Calibrated and tuned on the split `train` of `notes` (org/notes)."
    assert text.count(both) == 1 and text.count("Tuned on the split `dev`") == 1
    assert text.count(" on the split ") == 2


def test_nothing_in_the_folder_names_a_place_of_this_machine(tmp_path):
    path = Path("results/artifacts/model", "ba5e" * 4, artifact_folder.MANIFEST)
    manifest = file_io.read_json(path)
    manifest["record"]["source"] |= {"kind": "local", "name": f"local:{tmp_path}/base"}
    manifest["settings"]["source"] = {"kind": "local", "path": f"{tmp_path}/base"}
    file_io.write_json(path, artifact_folder.sealed(manifest))
    export(CELL, "model")
    for file in Path("model").rglob("*"):
        assert str(tmp_path).encode() not in (file.read_bytes() if file.is_file() else b"")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"licence": None}, "declares no licence"),
        ({"licence": "mit", "licence_of": "the wheel", "kind": "pypi"}, "The wheel that carries"),
    ],
)
def test_a_licence_that_is_not_the_models_is_no_key(source, words):
    path = Path("results/artifacts/model", "ba5e" * 4, artifact_folder.MANIFEST)
    manifest = file_io.read_json(path)
    manifest["record"]["source"] |= source
    file_io.write_json(path, artifact_folder.sealed(manifest))
    export("demo/dense", "model")
    card = ModelCard.load("model/README.md")
    assert "license" not in card.data.to_dict() and words in card.text
    assert card.data.tags == ["prunegrid"]


def test_a_licence_by_a_name_that_is_not_the_hubs():
    path = Path("results/artifacts/model", "ba5e" * 4, artifact_folder.MANIFEST)
    manifest = file_io.read_json(path)
    manifest["record"]["source"]["licence"] = "own-terms"
    file_io.write_json(path, artifact_folder.sealed(manifest))
    export(CELL, "model")
    data = ModelCard.load("model/README.md").data
    assert (data.license, data.license_name) == ("other", "own-terms")
    assert data.license_link.endswith("org/base")


def test_scores_of_whole_registered_benchmarks_are_listed_for_the_hub(tmp_path):
    cell = one_cell.find(CELL, Path("results"))
    data = {"kind": "hf", "name": "hf:openai/gsm8k@main", "resolved": "f00d"}
    texts = {"data": cell_world.data("95e8" * 4, data), "split": "test", "rows": None}
    cell.plan["scored"] = {"gsm8k": {"texts": texts}}
    score = {"split": "gsm8k", "metric": "exact_match", "value": 0.125, "shots": 5}
    for name, value in (score | {"harness": "lm-eval 0"}).items():
        cell.scores[name] = value
    entry = model_card.benchmark_entries(cell)
    assert "openai/gsm8k" in entry and "12.5" in entry and "f00d" in entry
    texts["rows"] = 50  # a part of it compares with no other score
    assert model_card.benchmark_entries(cell) is None


def test_a_folder_that_exists_is_left_alone(capsys):
    Path("model").mkdir()
    Path("model/mine").touch()
    assert export(CELL, "model") == 1
    assert "something already" in capsys.readouterr().err
    assert os.listdir("model") == ["mine"]


def test_dropped_weights_say_what_makes_them_again(capsys):
    dropped.drop(Path("results/artifacts/prune", "c0de" * 4))
    assert export(CELL, "model") == 1
    said = capsys.readouterr().err
    assert "keep_weights" in said and f"prune/{'c0de' * 4}/manifest.json" in said


def test_weights_of_another_row_are_not_exported(capsys):
    cell_world.artifact("prune", "c0de" * 4, cell_world.decoder(pattern="2:4", seed=1))
    assert export(CELL, "model") == 1
    assert "as its row says" in capsys.readouterr().err
    assert not Path("model").exists()


def test_a_full_disk_leaves_nothing(monkeypatch, capsys):
    def full(folder, needed):
        raise OSError(28, "No space left on device", str(folder))

    monkeypatch.setattr(artifact_folder, "require_space", full)
    assert export(CELL, "place/model") == 1
    assert "no space left" in capsys.readouterr().err
    assert os.listdir("place") == []


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub, with this process pointed to it and to a secret."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with hub_server(tmp_path / "hub") as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def test_a_pushed_folder_comes_back_whole(hub, capsys):
    assert export(CELL, "model", "--push", REPO) == 0
    there = hub.folder("models", REPO)
    assert exported_folder.check(there).differences == []
    names = {path.name for path in Path("model").iterdir()}
    assert {path.name for path in there.iterdir()} == names
    assert f'from_pretrained("{REPO}"' in (there / "README.md").read_text()
    assert sum("/commit/" in path for path, _ in hub.seen) == 1
    said = capsys.readouterr()
    assert hub.url in said.out and SECRET not in said.out + said.err


FAULTS = {
    "unauthorized": lambda hub, patch: hub.refuse(REPO, 401),
    "forbidden": lambda hub, patch: hub.refuse(REPO, 403),
    "out of order": lambda hub, patch: hub.refuse(REPO, 500),
    "no token": lambda hub, patch: patch.delenv("HF_TOKEN"),
    "refuses the commit": lambda hub, patch: hub.refuse(f"{REPO}:commit", 403),
    "not there": lambda hub, patch: patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9"),
    "offline": lambda hub, patch: patch.setattr(constants, "HF_HUB_OFFLINE", True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_hub_that_refuses_leaves_the_folder_whole(hub, monkeypatch, tmp_path, capsys, fault):
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    FAULTS[fault](hub, monkeypatch)
    assert export(CELL, "model", "--push", REPO) == 1
    said = capsys.readouterr()
    assert f"hf upload {REPO} model" in said.err and SECRET not in said.out + said.err
    assert exported_folder.check(Path("model")).differences == []


@pytest.mark.parametrize("repo", ["half", "a/b/c", "org/ha lf"])
def test_a_name_that_is_no_repository_is_refused_first(repo, capsys):
    assert export(CELL, "model", "--push", repo) == 1
    assert "org/name" in capsys.readouterr().err and not Path("model").exists()
