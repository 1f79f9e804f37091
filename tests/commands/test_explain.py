"""`prunegrid explain`: the setting, parent, version or code that makes a step run again."""

from __future__ import annotations

import dataclasses
import os

import pytest

from prunegrid.artifacts import artifact_folder
from prunegrid.commands import cli, explain
from prunegrid.common import file_io
from prunegrid.common.errors import PrunegridError
from prunegrid.graph.nodes import with_ancestors
from tests.helpers import shipped
from tests.helpers.study_world import graph, make

CELL = "wiki-wanda-50 / none"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def finished():
    """The study's graph, all of it made."""
    whole = graph()
    for node in with_ancestors(whole.study_leaves("s")):
        make(node)
    return whole


def with_sparsity(value, **top):
    """Return the study's graph under another sparsity of its profile."""
    prune = shipped.config()["prune"]
    prune["wiki-wanda-50"]["sparsity"] = value
    return graph(prune=prune, **top)


def text(of, cell=CELL):
    return "\n".join(explain.lines(of, "s", cell))


def prune_of(of):
    (plan,) = [p for p in of.plans("s") if explain.title(p.cell).endswith(f"{CELL} / seed 0")]
    return plan.chain[-1]


def test_a_finished_cell_is_whole_and_says_where_it_lies(finished):
    told = text(finished)
    assert "whole" in told and "would run" not in told.partition("\n")[2]
    assert f"it lies in {prune_of(finished).path}" in told  # its weights


def test_a_changed_setting_is_named_with_both_values_and_its_children_name_the_parent(finished):
    told = text(with_sparsity(0.6))
    assert "2 of 5 steps would run" in told
    assert "this step's setting `sparsity` was 0.5, and is 0.6 now" in told
    assert f"is another: its key was {prune_of(finished).key} and is " in told
    assert told.count("setting ") == 1
    assert text(with_sparsity(0.6), "dense / none").startswith("s, dense / none: whole")


def test_a_step_that_never_ran_says_so():
    told = text(graph())
    assert "5 of 5 steps would run" in told and "never made" in told


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"code": "0" * 16}, "prunegrid's code"),
        ({"pins": {"torch": "1.0"}}, "the version of torch was 1.0, and is "),
        ({"threads": 7}, "`threads` of the run was 7, and is 1 now"),
        ({"device": "cuda:0 (a GPU)"}, "`device` of the run was cuda, and is cpu now"),
        (
            {"compute_dtype": "bfloat16"},
            "`compute_dtype` of the run was bfloat16, and is float32 now",
        ),
    ],
)
def test_each_part_of_a_key_is_compared(finished, facts, reason):
    pruned = prune_of(finished)
    path = pruned.path / artifact_folder.MANIFEST
    found = explain.reasons(pruned, file_io.read_json(path) | facts)
    assert any(one.startswith(reason) for one in found)
    assert not explain.reasons(pruned, file_io.read_json(path))[0].startswith(reason)


def test_a_setting_that_was_not_set_before_is_told_in_a_sentence(finished):
    pruned = prune_of(finished)
    manifest = file_io.read_json(pruned.path / artifact_folder.MANIFEST)
    del manifest["settings"]["sparsity"]
    manifest["settings"]["blocksize"] = 128
    assert explain.reasons(pruned, manifest) == [
        "this step's setting `blocksize` was 128, and is not set now",
        "this step's setting `sparsity` is 0.5 now, and was not set before",
    ]


def test_code_that_was_written_after_an_artifact_is_named(finished, tmp_path):
    pruned = prune_of(finished)
    manifest = file_io.read_json(pruned.path / artifact_folder.MANIFEST) | {"code": "0" * 16}
    own = tmp_path / "own.py"
    own.write_text("SHARE = 0.5\n")
    late = own.stat().st_mtime + 1000
    os.utime(own, (late, late))
    with_own = dataclasses.replace(pruned, roots=(*pruned.roots, str(own)))
    (told,) = explain.reasons(with_own, manifest, late - 1)
    assert told.endswith(f"written since then: {own}")
    (told,) = explain.reasons(with_own, manifest)  # all are younger, as after a download
    assert "written since" not in told and str(own) in told


def test_a_damaged_artifact_names_the_repair(finished):
    path = prune_of(finished).path / "small.json"
    path.unlink()
    told = text(finished)
    assert "is damaged" in told and "prunegrid repair" in told


def test_a_key_names_one_step(finished):
    told = text(with_sparsity(0.6), prune_of(with_sparsity(0.6)).key[:8])
    assert "1 of 4 steps would run" in told


def test_an_unknown_cell_names_the_nearest_and_an_unclear_one_its_cells(finished):
    with pytest.raises(PrunegridError, match="did you mean 'wiki-wanda-50 / none'"):
        text(finished, "wiki-wanda-51 / none")
    with pytest.raises(PrunegridError, match="demo-full / seed 0") as caught:
        text(finished, "demo-full")
    assert "2 cells" in caught.value.what


def test_the_command_names_a_cell_as_export_does(capsys):
    assert cli.main(["explain", "demo/magnitude-2of4/none"]) == 0
    assert "steps would run" in capsys.readouterr().out
    assert cli.main(["explain", "demo"]) == 1
    assert "STUDY/NAME/NAME" in capsys.readouterr().err
    assert cli.main(["explain", "dmo/magnitude-2of4"]) == 1
    assert "demo" in capsys.readouterr().err
