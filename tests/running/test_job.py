"""Running a step: its artifact is whole or absent, and made once."""

import importlib
import json
import shutil
import threading
import time
from pathlib import Path

import pytest

from prunegrid.artifacts import artifact_folder, dropped, token_probe
from prunegrid.artifacts.job_status import read_state
from prunegrid.artifacts.lock import only_maker
from prunegrid.common import file_io
from prunegrid.running import job
from tests.helpers.jobs import drop, make_parent


def test_a_step_becomes_an_artifact_with_its_lineage(tmp_path, stage, node):
    parent = make_parent(tmp_path)
    node["parents"] = {"weights": {"path": str(parent), "key": "p" * 16, "stage": "model"}}

    def run(settings, parents, out, job):
        assert json.loads((tmp_path / "status.json").read_text())["state"] == "running"
        (job.scratch / "note").write_text("kept while running")
        (out / "y").write_text((parents["weights"] / "x").read_text())
        return {"seed": job.seed("one"), "other": job.seed("two")}

    stage.run = run
    job.run_step(node, tmp_path / "log")
    manifest = artifact_folder.read_manifest(tmp_path / "artifacts/pretend" / ("a" * 16), "a" * 16)
    assert manifest["record"]["seed"] != manifest["record"]["other"]
    assert manifest["lineage"][0]["record"] == {"fact": 1}
    assert (
        manifest["parents"]["weights"]["content"]
        == artifact_folder.read_manifest(parent)["content"]
    )
    assert not (tmp_path / "scratch").exists() and not (tmp_path / "status.json").exists()
    assert "done in" in (tmp_path / "log").read_text()


@pytest.fixture
def made(tmp_path, stage, node):
    """A whole artifact whose job is tried again, as where another member of its group failed."""
    node["parents"] = {
        "weights": {"path": str(make_parent(tmp_path)), "key": "p" * 16, "stage": "model"}
    }
    runs = []

    def run(settings, parents, out, job):
        runs.append((out / "y").write_text(f"{len(runs)}"))
        return {}

    stage.run = run
    job.run_step(node)
    manifest = tmp_path / "artifacts/pretend" / ("a" * 16) / "manifest.json"
    return runs, manifest, manifest.read_text()


def test_the_next_try_takes_what_is_whole(tmp_path, node, made):
    runs, manifest, before = made
    job.run_step(node, tmp_path / "log")
    assert len(runs) == 1 and manifest.read_text() == before
    assert "is there already" in (tmp_path / "log").read_text()
    manifest.unlink()
    job.run_step(node)
    assert len(runs) == 2


def test_the_next_try_takes_what_is_whole_though_what_it_read_was_dropped(node, made):
    runs, manifest, before = made
    drop(Path(node["parents"]["weights"]["path"]))
    job.run_step(node)
    assert len(runs) == 1 and manifest.read_text() == before


@pytest.mark.parametrize("what", ["file", "manifest", "parent", "folder"])
def test_the_next_try_makes_again_what_is_not(tmp_path, node, made, what):
    runs, manifest, _ = made
    if what == "file":
        (manifest.parent / "y").write_text("x")
    elif what == "manifest":
        manifest.write_text('{"key": "')
    elif what == "folder":
        shutil.rmtree(manifest.parent)
    else:
        changed = json.loads((tmp_path / "parent/manifest.json").read_text())
        (tmp_path / "parent/x").write_text("2")
        changed["files"] = artifact_folder.list_files(tmp_path / "parent")
        changed["content"] = artifact_folder.content_digest(changed["files"])
        file_io.write_json(tmp_path / "parent/manifest.json", changed)
    job.run_step(node)
    assert len(runs) == 2 and (manifest.parent / "y").read_text() == "1"
    assert artifact_folder.read_manifest(manifest.parent, "a" * 16)


def test_one_that_another_job_makes_is_waited_for(stage, node):
    ran, begun = [], threading.Event()
    stage.run = lambda settings, parents, out, job: ran.append(job.where) or {}

    def elsewhere():
        with only_maker(Path(f"{node['scratch']}.lock"), "elsewhere"):
            begun.set()
            time.sleep(0.5)
            job.make_artifact(node, ["cpu"])

    other = threading.Thread(target=elsewhere)
    other.start()
    begun.wait()
    job.run_step(node)
    other.join()
    assert ran == ["pretend step"]


def test_dropped_weights_are_not_read(tmp_path, stage, node):
    parent = make_parent(tmp_path)
    drop(parent)
    node["parents"] = {"weights": {"path": str(parent), "key": "p" * 16, "stage": "model"}}
    stage.run = lambda *a: pytest.fail("it ran")
    with pytest.raises(SystemExit):
        job.run_step(node)
    assert "were dropped" in read_state(tmp_path / "status.json")["reason"]


def test_what_was_dropped_is_made_again_as_it_was_or_the_step_fails(tmp_path, stage, node):
    parent, folder = make_parent(tmp_path), Path(node["path"])
    node["parents"] = {"weights": {"path": str(parent), "key": "p" * 16, "stage": "model"}}
    contents = iter([b"1", b"1", b"2"])

    def run(settings, parents, out, job):
        (out / "w.safetensors").write_bytes(next(contents))
        (out / "story.json").write_text(str(time.monotonic()))
        return {}

    stage.run = run
    job.run_step(node)
    before = (folder / "manifest.json").read_bytes()
    dropped.drop(folder)
    assert not (folder / "w.safetensors").exists()
    # Its only reader has not run, so it stays.
    job.run_step(node | {"retire": [{"path": str(folder), "needed_by": [str(tmp_path / "no")]}]})
    assert (folder / "manifest.json").read_bytes() == before
    assert artifact_folder.read_manifest(folder)["files"].keys() == {"w.safetensors", "story.json"}
    assert (folder / "w.safetensors").read_bytes() == b"1"
    dropped.drop(folder)
    with pytest.raises(SystemExit):
        job.run_step(node)
    assert "is not what was dropped" in read_state(tmp_path / "status.json")["reason"]


def test_a_step_without_a_seed_must_not_draw(node, tmp_path):
    node["settings"] = {}
    with pytest.raises(RuntimeError, match="must not draw"):
        job.Job(node, tmp_path).seed("x")


def test_seeds_differ_by_seed_and_purpose(node, tmp_path):
    one = job.Job(node, tmp_path).seed("x")
    node["settings"] = {"seed": 4}
    assert one != job.Job(node, tmp_path).seed("x")
    assert 0 <= one < 2**63


def test_a_users_own_plugins_are_loaded_before_the_stage_which_is_not_told_where(
    tmp_path, stage, node
):
    (tmp_path / "mine.py").write_text("NEEDS = 'nothing'\nFACT = 7\n")
    node["settings"]["own_files"] = {"update": [str(tmp_path / "mine.py")]}

    def run(settings, parents, out, job):
        own = importlib.import_module("prunegrid.pruning.updates.mine.py")
        (out / "y").write_text("1")
        return {"settings": settings, "fact": own.FACT}

    stage.run = run
    job.run_step(node)
    manifest = artifact_folder.read_manifest(tmp_path / "artifacts/pretend" / ("a" * 16))
    assert manifest["record"] == {"settings": {"seed": 3}, "fact": 7}


def test_a_step_whose_tokenizer_gives_other_ids_says_so_and_so_do_those_behind_it(
    tmp_path, stage, node
):
    def tokenizer(text, verbose):
        return {"input_ids": [len(text)]}

    parent = make_parent(tmp_path)
    written = file_io.read_json(parent / artifact_folder.MANIFEST)
    written["record"][token_probe.RECORDED] = "another digest"
    file_io.write_json(parent / artifact_folder.MANIFEST, artifact_folder.sealed(written))
    stage.run = lambda settings, parents, out, job: {
        "told": token_probe.compare(tokenizer, parents["weights"])
    }
    manifests = []
    for place, key, stage_read in ((parent, "p", "model"), (Path(node["path"]), "a", "pretend")):
        read = {"path": str(place), "key": key * 16, "stage": stage_read}
        name = "ab"[len(manifests)] * 16
        folder = tmp_path / "artifacts/pretend" / name
        job.run_step(node | {"parents": {"weights": read}, "key": name, "path": str(folder)})
        manifests.append(artifact_folder.read_manifest(folder))
    first, second = manifests
    assert first["other_token_ids"] is True and "other_token_ids" not in first["lineage"][0]
    assert [step.get("other_token_ids") for step in second["lineage"]] == [None, True]


def test_a_step_whose_tokenizer_is_the_same_says_nothing(tmp_path, stage, node):
    stage.run = lambda settings, parents, out, job: {}
    job.run_step(node)
    assert "other_token_ids" not in artifact_folder.read_manifest(Path(node["path"]))
