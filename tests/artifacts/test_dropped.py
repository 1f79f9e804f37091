"""Weights that no step needs go, nothing reruns by that, and they come back as they were."""

import logging
import shutil

import pytest

from prunegrid.artifacts import artifact_folder, dropped
from prunegrid.common import file_io
from prunegrid.common.errors import AttestationError
from prunegrid.graph import pending
from prunegrid.graph.nodes import WEIGHTS_MADE, with_ancestors
from tests.helpers.study_world import graph, make


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def finished(made):
    for node in with_ancestors(made.study_leaves("s")):
        make(node)


def tuned(made):
    (node,) = [
        n for n in made.all_nodes() if n.label.endswith("wiki-wanda-50 > finetune demo-full")
    ]
    return node


def test_what_is_dropped_says_what_went_and_what_it_was():
    made = graph()
    finished(made)
    node = tuned(made)
    before = artifact_folder.read_manifest(node.path)
    assert dropped.drop(node.path) == 4000
    assert dropped.drop(node.path) == 0
    assert sorted(p.name for p in node.path.iterdir()) == [
        "dropped.json",
        "small.json",
    ]
    assert artifact_folder.read_manifest(node.path, node.key) == before
    (node.path / "small.json").write_text("changed")
    with pytest.raises(AttestationError, match=r"small\.json is not the one"):
        artifact_folder.read_manifest(node.path)


def test_nobody_reads_dropped_weights():
    made = graph()
    finished(made)
    node = tuned(made)
    dropped.require_whole(node.path)
    dropped.drop(node.path)
    with pytest.raises(AttestationError, match="dropped"):
        dropped.require_whole(node.path)


def test_nothing_reruns_by_dropping():
    made = graph()
    finished(made)
    for node in made.all_nodes():
        assert bool(dropped.drop(node.path)) == bool(node.stage in ("model", *WEIGHTS_MADE))
    assert pending.pending(made.study_leaves("s")) == []


def test_a_new_step_has_them_made_again_and_no_other():
    made = graph()
    finished(made)
    for node in made.all_nodes():
        if node.stage in ("prune", "finetune"):
            dropped.drop(node.path)
    more = graph(evaluations=("wikipedia-512", "wikipedia-2048"))
    todo = pending.pending(more.study_leaves("s"))
    again = [node for node in todo if artifact_folder.is_dropped(node.path)]
    assert {node.stage for node in again} == {"prune", "finetune"}
    new = [node for node in todo if node not in again]
    assert {node.stage for node in new} == {"perplexity"}
    assert len(new) == 4
    # Parents first, so that each finds its weights.
    assert todo.index(tuned(more).parents["weights"]) < todo.index(tuned(more))


def test_the_last_reader_drops_and_only_where_that_is_asked_for():
    made = graph(keep_weights="until_used")
    finished(made)
    node = tuned(made)
    (reader,) = [n for n in made.all_nodes() if node in n.parents.values()]
    pruned = node.parents["weights"]
    entries = pending.retired(made, ["s"], node)
    assert [entry["path"] for entry in entries] == [pruned.path.as_posix()]
    assert len(entries[0]["needed_by"]) == 2  # its tuning, its own perplexity
    shutil.rmtree(reader.path)
    dropped.retire(pending.retired(made, ["s"], reader))
    assert not artifact_folder.is_dropped(node.path)
    make(reader)
    dropped.retire(pending.retired(made, ["s"], reader))
    assert artifact_folder.is_dropped(node.path)
    # What read the pruned weights is dropped itself, and counts as made.
    dropped.retire(entries)
    assert artifact_folder.is_dropped(pruned.path)
    assert pending.retired(made, [], reader) == []
    assert pending.retired(graph(), ["s"], node) == []
    models = {n.path.as_posix() for n in made.all_nodes() if n.stage == "model"}
    gone = [e for n in made.all_nodes() for e in pending.retired(made, ["s"], n)]
    assert not models & {entry["path"] for entry in gone}


def test_what_cannot_be_dropped_fails_no_job(caplog):
    made = graph(keep_weights="until_used")
    finished(made)
    node = tuned(made)
    (node.path / artifact_folder.MANIFEST).write_text("{")
    with caplog.at_level(logging.WARNING):
        dropped.retire([{"path": node.path.as_posix(), "needed_by": []}])
    assert "could not be dropped" in caplog.text


@pytest.mark.parametrize("step", ["read_json", "write_json"])
def test_two_last_readers_drop_at_once(monkeypatch, step):
    """The first is half through when the second has read the manifest, or written its own word."""
    (node,) = [n for n in graph(tunings=("demo-full",)).all_nodes() if n.stage == "prune"]
    shards = [f"model-{i}.safetensors" for i in range(3)]
    with artifact_folder.writing(node.path) as out:
        for name in [*shards, "small.json"]:
            (out / name).write_bytes(bytes(9))
        files = artifact_folder.list_files(out)
        body = {"key": node.key, "files": files, "content": artifact_folder.content_digest(files)}
        file_io.write_json(out / artifact_folder.MANIFEST, body)
    place = artifact_folder if step == "read_json" else file_io
    own = getattr(place, step)

    def meanwhile(*arguments):
        found = own(*arguments)
        monkeypatch.setattr(place, step, own)
        told = {"files": shards, "manifest": body}
        file_io.write_json(node.path / artifact_folder.DROPPED, told)
        (node.path / artifact_folder.MANIFEST).unlink()
        (node.path / shards[0]).unlink()
        return found

    monkeypatch.setattr(place, step, meanwhile)
    dropped.retire([{"path": node.path.as_posix(), "needed_by": []}])
    for name in shards:  # the first one ends
        (node.path / name).unlink(missing_ok=True)
    assert dropped.dropped(node.path)["files"] == shards
    artifact_folder.read_manifest(node.path, node.key)


@pytest.mark.parametrize("same", [True, False])
def test_what_is_made_again_is_what_was_dropped_or_fails(tmp_path, same):
    made = graph()
    finished(made)
    node = tuned(made)
    before = artifact_folder.read_manifest(node.path)
    dropped.drop(node.path)
    again = tmp_path / "again"
    again.mkdir()
    (again / "model.safetensors").write_bytes(bytes(4000) if same else b"other")
    (again / "small.json").write_text("other times")
    (again / "new.json").write_text("")
    told = dropped.dropped(node.path)
    if not same:
        with pytest.raises(AttestationError, match="is not what was dropped"):
            dropped.restore(node.path, again, told, "here")
        return
    dropped.restore(node.path, again, told, "here")
    assert artifact_folder.read_manifest(again, node.key) == before


def test_a_drop_that_was_killed_leaves_a_whole_artifact_or_a_dropped_one(monkeypatch):
    made = graph()
    finished(made)
    node = tuned(made)
    (node.path / artifact_folder.DROPPED).write_text("{}")  # before the manifest goes
    assert not artifact_folder.is_dropped(node.path)
    dropped.require_whole(node.path)
    artifact_folder.read_manifest(node.path)
    weights = (node.path / "model.safetensors").read_bytes()
    dropped.drop(node.path)
    (node.path / "model.safetensors").write_bytes(weights)  # before the weights go
    assert artifact_folder.is_dropped(node.path)
    artifact_folder.read_manifest(node.path)


def test_at_the_end_of_a_run_on_a_cluster_all_goes_that_was_read():
    """Its jobs drop nothing themselves."""
    made = graph(keep_weights="until_used")
    finished(made)
    dropped.retire(pending.retired(made, ["s"]))
    weights = [n for n in made.all_nodes() if n.stage in WEIGHTS_MADE]
    assert weights and all(artifact_folder.is_dropped(node.path) for node in weights)
    assert pending.retired(graph(), ["s"]) == [], "weights are kept where all is to be kept"
    assert pending.retired(made, []) == []
