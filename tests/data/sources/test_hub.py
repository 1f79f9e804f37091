"""The real hub client against a hub on the loopback: what is fetched, resumed, refused, said."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from prunegrid.common.errors import PrunegridError
from prunegrid.common.source_code import LIBRARY
from prunegrid.data.sources import hub, hub_data, hub_model
from tests.helpers import hub_world
from tests.helpers.hub_files import commit_of
from tests.helpers.hub_server import hub_server

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return hub_world.build(tmp_path_factory.mktemp("world"), train=40, test=5, ca_test=4, texts=8)


@pytest.fixture
def server(world, tmp_path, monkeypatch):
    """A hub, with this process pointed to it and to an empty cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hub, "wait", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with hub_server(world) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def source(repo, **more):
    return {"kind": "hf", "repo": repo, "revision": "main", **more}


def asked(server):
    return [request.rpartition("/")[2] for request, _ in server.seen if request.startswith("GET")]


def test_only_what_a_model_needs_is_fetched_at_its_commit(server):
    fetched = hub_model.fetch(source("facebook/opt-125m"), "here")
    assert fetched.facts["resolved"] == commit_of(server.folder("models", "facebook/opt-125m"))
    assert fetched.facts["licence"] == "other"
    assert fetched.place.name == fetched.facts["resolved"]
    assert "pytorch_model.bin" in fetched.names and "merges.txt" in fetched.names
    assert "tf_model.h5" not in asked(server)
    assert all(len(digest) == 64 for digest in fetched.facts["files"].values())


def test_safetensors_are_preferred(server, world):
    folder = world / "models/tests/opt-safetensors"
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    try:
        fetched = hub_model.fetch(source("tests/opt-safetensors"), "here")
    finally:
        (folder / "pytorch_model.bin").unlink()
    assert "model.safetensors" in fetched.names
    assert "pytorch_model.bin" not in asked(server)


@pytest.mark.parametrize("xet", [False, True])
def test_a_cut_download_goes_on_where_it_stopped(server, monkeypatch, xet):
    server.xet = xet
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    server.cut("pytorch_model.bin", times=2)
    fetched = hub_model.fetch(source("facebook/opt-350m"), "here")
    original = server.folder("models", "facebook/opt-350m") / "pytorch_model.bin"
    assert (fetched.place / "pytorch_model.bin").read_bytes() == original.read_bytes()
    ranges = [span for request, span in server.seen if "/large/" in request and span]
    assert len(ranges) == 2 and ranges[0] != "bytes=0-" != ranges[1]


def test_a_file_that_is_not_the_hubs_is_refused(server, monkeypatch):
    monkeypatch.setattr(hub.file_io, "file_sha256", lambda path: "0" * 64)
    with pytest.raises(PrunegridError, match="as the hub says"):
        hub_model.fetch(source("tests/opt-safetensors"), "here")


def test_a_second_fetch_downloads_nothing_and_works_without_a_network(server, monkeypatch):
    first = hub_model.fetch(source("facebook/opt-125m"), "here")
    server.seen.clear()
    again = hub_model.fetch(source("facebook/opt-125m"), "here")
    assert [r for r, _ in server.seen] == ["GET /api/models/facebook/opt-125m/revision/main"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    server.seen.clear()
    offline = hub_model.fetch(source("facebook/opt-125m"), "here")
    assert not server.seen
    assert first.facts == again.facts == offline.facts


def test_offline_without_a_cache_says_what_to_do(server, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PrunegridError, match="unset HF_HUB_OFFLINE") as caught:
        hub_model.fetch(source("facebook/opt-125m"), "models.opt")
    assert str(caught.value).startswith("models.opt: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("repo", "revision", "refusal", "expected"),
    [
        ("nobody/nothing", "main", None, "no repository nobody/nothing.*set HF_TOKEN"),
        ("facebook/opt-125m", "v9", None, "no revision 'v9'"),
        ("a/b/c/d", "main", None, "not a repository's name"),
        ("facebook/opt-125m", "main", (403, "GatedRepo"), "gated.*accept its terms"),
        ("facebook/opt-125m", "main", (404, "RepoNotFound"), "no repository"),
        ("facebook/opt-125m", "main", (429, ""), "answered 429.*again later"),
        ("facebook/opt-125m", "main", (500, ""), "answered 500"),
    ],
)
def test_refusals_are_one_sentence(server, repo, revision, refusal, expected):
    if refusal:
        server.refuse(repo, *refusal)
    with pytest.raises(PrunegridError, match=expected) as caught:
        hub_model.fetch(source(repo) | {"revision": revision}, "models.x")
    assert "\n" not in str(caught.value)


def test_a_busy_hub_is_asked_again(server, monkeypatch):
    server.refuse("facebook/opt-125m", 429)
    waits = []
    monkeypatch.setattr(hub, "wait", lambda s: (waits.append(s), server.refusals.clear()))
    assert hub_model.fetch(source("facebook/opt-125m"), "here").names
    assert waits == [1]


def test_a_hub_that_stalls_once_is_asked_again(server, monkeypatch):
    monkeypatch.setattr(hub, "FIRST_ANSWER_SECONDS", 0.5)
    server.stall("facebook/opt-125m")
    waits = []

    def wait(seconds):
        waits.append(seconds)
        server.heal()
        hub.FIRST_ANSWER_SECONDS = 600.0  # a busy machine may answer late

    monkeypatch.setattr(hub, "wait", wait)
    assert hub_model.fetch(source("facebook/opt-125m"), "here").names
    assert waits == [1]


def test_a_silent_hub_is_asked_a_few_times_and_one_that_is_down_once(server, monkeypatch):
    waits = []
    monkeypatch.setattr(hub, "wait", waits.append)
    monkeypatch.setattr(hub, "FIRST_ANSWER_SECONDS", 0.5)
    server.stall("facebook/opt-125m")
    with pytest.raises(PrunegridError, match="cannot be reached"):
        hub_model.fetch(source("facebook/opt-125m"), "here")
    assert len(server.seen) == hub.TRIES and waits == [1, 2, 4]
    waits.clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(PrunegridError, match="connect this machine, set HF_ENDPOINT"):
        hub_model.fetch(source("facebook/opt-125m"), "here")
    assert waits == []


def test_an_unset_environment_reaches_the_hub_by_itself(server, tmp_path):
    """In a fresh process HF_ENDPOINT and HF_HOME alone decide."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from prunegrid.data.sources import hub_model\n"
        "s = {'kind': 'hf', 'repo': 'tests/opt-safetensors', 'revision': 'main'}\n"
        "print(hub_model.fetch(s, 'here').place)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(LIBRARY)],
        env=server.environment(tmp_path / "home"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "home")


def test_a_full_disk_is_told_before_the_download(server, monkeypatch):
    usage = type(hub.artifact_folder.shutil.disk_usage("/"))(10, 0, 10)
    monkeypatch.setattr(hub.artifact_folder.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(PrunegridError, match="free some space"):
        hub_model.fetch(source("facebook/opt-125m"), "here")
    assert "pytorch_model.bin" not in asked(server)


def test_sharded_files_of_both_formats(server, world, tmp_path):
    original = load_file(world / "models/tests/opt-safetensors/model.safetensors")
    names = sorted(original)
    for form, single in (("bin", "pytorch_model"), ("safetensors", "model")):
        repo = world / f"models/tests/sharded-{form}"
        repo.mkdir()
        files = [f"{single}-0000{i}-of-00002.{form}" for i in (1, 2)]
        where = {name: files[i % 2] for i, name in enumerate(names)}
        for file in files:
            part = {n: original[n].clone() for n in names if where[n] == file}
            (torch.save if form == "bin" else save_file)(part, repo / file)
        index = {"metadata": {}, "weight_map": where}
        (repo / f"{single}.{form}.index.json").write_text(json.dumps(index))
        (repo / "config.json").write_text("{}")
        fetched = hub_model.fetch(source(f"tests/sharded-{form}"), "here")
        assert set(files) < set(fetched.names)


def test_splits_are_read_off_the_readme_the_names_and_the_config(server, world):
    bills = source("FiscalNote/billsum")
    files, facts = hub_data.fetch(bills, ["test", "ca_test"], "here")
    assert [p.name for p in files["test"]] == ["test-00000-of-00001.parquet"]
    assert facts["licence"] == "cc0-1.0" and len(facts["files"]) == 2
    assert "train-00000-of-00001.parquet" not in asked(server)
    names = ["data/train-00000-of-00001.parquet", "ca_test.jsonl", "x/test.jsonl", "test_2.csv"]
    found = hub_data.resolve({}, {}, names, ["train", "test", "ca_test"], "here")
    assert found == {"train": names[:1], "test": ["x/test.jsonl"], "ca_test": ["ca_test.jsonl"]}
    given = {"files": {"a": "x/*"}}
    assert hub_data.resolve(given, {}, names, ["a"], "here") == {"a": ["x/test.jsonl"]}
    with pytest.raises(PrunegridError, match="did you mean 'test'"):
        hub_data.fetch(bills, ["tset"], "here")
    with pytest.raises(PrunegridError, match="scripts are not run"):
        hub_data.resolve({}, {}, [], ["train"], "here")
    with pytest.raises(PrunegridError, match="several configs"):
        card = {"configs": [{"config_name": n, "data_files": "x/*"} for n in ("u", "v")]}
        hub_data.resolve({}, card, names, ["train"], "here")


class Payload:
    """Runs a command where it is unpickled by an ordinary loader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def test_a_pickle_with_a_payload_is_refused_and_does_not_run(tmp_path):
    from prunegrid.models import pickled

    target, path = tmp_path / "it-ran", tmp_path / "pytorch_model.bin"
    for saved in (torch.save, lambda value, p: p.write_bytes(pickle.dumps(value))):
        saved({"weight": torch.zeros(2), "x": Payload(target)}, path)
        with pytest.raises(PrunegridError, match="none of it was loaded"):
            pickled.read(path)
        assert not target.exists()


def test_only_one_module_reads_pickles():
    readers = ("torch.load(", "pickle.load", "weights_only=False", "trust_remote_code=True")
    found = {
        (path.relative_to(LIBRARY).as_posix(), word)
        for path in LIBRARY.rglob("*.py")
        for word in readers
        if word in path.read_text()
    }
    assert found == {("prunegrid/models/pickled.py", "torch.load(")}


def _card(*configs):
    return {"configs": [{"config_name": "a", "data_files": one} for one in configs]}


@pytest.mark.parametrize(
    "card",
    [
        *({"configs": value} for value in (5, "data_files config_name", {"a": 1}, [5], ["a"])),
        {"configs": ["data_files config_name"]},
        *(_card(value) for value in (None, 5, [], [5], [["a"]], [{"split": "train"}])),
        *(_card([value]) for value in ({"path": "a"}, {"split": [], "path": "a"})),
        *(_card(value) for value in ([{"split": "train", "path": 5}], {"train": None})),
        _card([{"split": "train", "path": "train.parquet"}, "test.parquet"]),
    ],
)
def test_a_card_of_another_form_is_told_in_one_sentence(card):
    with pytest.raises(PrunegridError, match="README.md.*say which files") as caught:
        hub_data.resolve({}, card, ["train.parquet"], ["train"], "here")
    assert "\n" not in str(caught.value)
    given = {"files": {"train": "train.parquet"}}
    found = hub_data.resolve(given, card, ["train.parquet"], ["train"], "here")
    assert found == {"train": ["train.parquet"]}


@pytest.mark.parametrize(
    "given",
    [
        *("train*", ["x", "train*"], {"train": "train*"}, {"train": ["./train.parquet"]}),
        *([{"split": "train", "path": path}] for path in ("train*", ["train*"])),
    ],
)
def test_a_card_of_each_form_is_read(given):
    found = hub_data.resolve({}, _card(given), ["train.parquet"], ["train"], "here")
    assert found == {"train": ["train.parquet"]}
