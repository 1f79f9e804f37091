"""What code and versions alone would rerun is told, and can be kept with the reason on record."""

import fcntl
import json
import os
import threading
import time
from pathlib import Path

import pytest

from prunegrid.artifacts import artifact_folder, dropped, keys
from prunegrid.artifacts.lock import LIVE, only_maker
from prunegrid.commands import adopt, cli, options_of
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.graph.nodes import with_ancestors
from prunegrid.graph.pending import pending
from prunegrid.tables.chain_columns import adopted
from tests.helpers.study_world import graph, make


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def upgraded(tmp_path, monkeypatch):
    """The graph under another peft, over the artifacts of before."""
    before = graph()
    for node in with_ancestors(before.study_leaves("s")):
        make(node)
    read = keys.read_pins
    monkeypatch.setattr(
        keys, "read_pins", lambda file: {**read(file), "bitsandbytes": "99.0", "pyarrow": "99.0"}
    )
    return graph()


def test_a_changed_version_says_what_it_would_rerun(upgraded, tmp_path):
    todo = pending(upgraded.study_leaves("s"))
    found = adopt.find(upgraded, todo, tmp_path / "results")
    assert [one.node for one in found] == todo
    by_stage = {one.node.stage: one for one in found}
    assert set(by_stage) == {"data", "calibration", "prune", "finetune", "perplexity"}
    assert list(by_stage["data"].pins) == ["pyarrow"]
    assert by_stage["finetune"].pins["bitsandbytes"][1] == "99.0"
    assert not any(one.code for one in found)
    assert by_stage["prune"].pins == {}  # its calibration is another
    text = "\n".join(adopt.lines(found, "s"))
    assert f"{len(todo)} of these were made before" in text
    assert "an input that changed so" in text and "-> 99.0" in text and "adopt s" in text


def test_what_was_made_from_other_bytes_is_no_upgrade(upgraded, tmp_path):
    """The pruning ran anew and gave other weights: of what reads them nothing is kept."""
    results, leaves = tmp_path / "results", upgraded.study_leaves("s")
    whole = adopt.find(upgraded, pending(leaves), results)
    for node in with_ancestors(leaves):
        if node.stage in ("data", "calibration"):
            make(node)
        if node.stage == "prune":
            make(node, parameters=1234)
    todo = pending(leaves)
    found = adopt.find(upgraded, todo, results)
    kept = {one.node for one in found}
    pruned = {node for node in todo if "wanda" in node.label}
    assert kept and kept == set(todo) - pruned
    # Nor where the other bytes came after it was found.
    taken = adopt.adopt(whole, "reviewed")
    assert set(taken) == {node.path for node in kept}
    for node in kept:
        manifest = artifact_folder.recorded(node.path)
        for role, parent in node.parents.items():
            told = {fact: manifest["parents"][role][fact] for fact in ("key", "content")}
            there = artifact_folder.recorded(parent.path)
            assert told == {"key": there["key"], "content": there["content"]}


def test_what_was_remade_as_it_was_hinders_nothing(upgraded, tmp_path):
    leaves = upgraded.study_leaves("s")
    for node in with_ancestors(leaves):
        if node.stage in ("data", "calibration", "prune"):
            make(node)
    todo = pending(leaves)
    found = adopt.find(upgraded, todo, tmp_path / "results")
    assert todo and [one.node for one in found] == todo


def test_other_settings_are_no_upgrade(tmp_path):
    before = graph(evaluations=("wikipedia-512",))
    for node in with_ancestors(before.study_leaves("s")):
        make(node)
    other = graph(evaluations=("wikipedia-2048",))
    todo = pending(other.study_leaves("s"))
    assert todo
    assert adopt.find(other, todo, tmp_path / "results") == []


def test_adopted_artifacts_are_the_old_bytes_and_say_who_decided(upgraded, tmp_path):
    results = tmp_path / "results"
    todo = pending(upgraded.study_leaves("s"))
    found = adopt.find(upgraded, todo, results)
    (pruned,) = [one for one in found if one.node.stage == "prune"]
    dropped.drop(pruned.folder)
    assert len(adopt.adopt(found, "changelog read: nothing we call")) == len(todo)
    assert pending(upgraded.study_leaves("s")) == []
    for one in found:
        old, new = one.manifest, artifact_folder.read_manifest(one.node.path, one.node.key)
        assert new["content"] == old["content"] and new["pins"] == old["pins"]
        (decision,) = new["adopted"]
        assert decision["key"] == old["key"]
        assert decision["because"] == "changelog read: nothing we call"
        for role, parent in one.node.parents.items():
            assert new["parents"][role]["key"] == parent.key
    assert dropped.dropped(pruned.node.path)["manifest"]["key"] == pruned.node.key
    leaf = artifact_folder.read_manifest(found[-1].node.path)
    told = json.loads(adopted([*leaf["lineage"], leaf]))
    assert [one["stage"] for one in told][-1] == "perplexity"
    assert all(one["because"] and one["by"] and one["on"] for one in told)
    # Once more, nothing is left to adopt.
    assert adopt.find(upgraded, pending(upgraded.study_leaves("s")), results) == []


@pytest.mark.parametrize("own", [True, False])
def test_a_colleagues_files_are_copied(upgraded, tmp_path, monkeypatch, own):
    found = adopt.find(upgraded, pending(upgraded.study_leaves("s")), tmp_path / "results")
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user if own else user + 1)
    (folder,) = adopt.adopt(found[:1], "reviewed")
    assert os.path.samefile(folder / "small.json", found[0].folder / "small.json") is own
    assert artifact_folder.read_manifest(folder)["content"] == found[0].manifest["content"]


def test_rows_of_steps_that_ran_say_nothing():
    assert adopted([{"stage": "model", "label": "m"}]) is None


def test_a_reason_is_needed(upgraded, tmp_path):
    found = adopt.find(upgraded, pending(upgraded.study_leaves("s")), tmp_path / "results")
    with pytest.raises(PrunegridError, match="no reason"):
        adopt.adopt(found, "  ")


def test_nothing_is_adopted_under_a_run(upgraded, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(options_of, "graph", lambda options: upgraded)
    LIVE.parent.mkdir()
    with open(LIVE, "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        assert cli.main(["adopt", "s", "--because", "reviewed"]) == 1
    assert "a run is under way" in capsys.readouterr().err
    assert cli.main(["adopt", "s", "--because", "reviewed"]) == 0
    assert pending(upgraded.study_leaves("s")) == []


def test_what_a_job_is_making_is_waited_for(upgraded, tmp_path):
    found = adopt.find(upgraded, pending(upgraded.study_leaves("s")), tmp_path / "results")
    node = found[0].node
    going, lock = threading.Event(), Path(f"{node.scratch}.lock")

    def job():
        with only_maker(lock, "a job"), artifact_folder.writing(node.path) as out:
            going.set()
            time.sleep(1)
            (out / "of the job").touch()
            files = artifact_folder.list_files(out)
            content = artifact_folder.content_digest(files)
            file_io.write_json(
                out / artifact_folder.MANIFEST,
                {"key": node.key, "files": files, "content": content},
            )

    thread = threading.Thread(target=job)
    thread.start()
    assert going.wait(900)
    taken = adopt.adopt(found[:1], "reviewed")
    thread.join()
    assert taken == [] and set(artifact_folder.read_manifest(node.path)["files"]) == {"of the job"}
    assert not lock.exists()


def test_what_is_damaged_is_not_adopted(upgraded, tmp_path):
    found = adopt.find(upgraded, pending(upgraded.study_leaves("s")), tmp_path / "results")
    (found[0].folder / "small.json").write_text("changed")
    with pytest.raises(PrunegridError, match=r"small\.json"):
        adopt.adopt(found, "reviewed")
    assert not found[0].node.path.exists()
